from typing import Any

import numpy as np
import numpy.typing as npt
from vtk import vtkDataArray

def numpy_to_vtk(num_array: npt.NDArray[np.generic], deep: bool | int = 0) -> vtkDataArray: ...
def vtk_to_numpy(vtk_array: vtkDataArray) -> npt.NDArray[Any]: ...
