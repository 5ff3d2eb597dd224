from typing import TypeVar

T = TypeVar("T")

def parameterNodeWrapper(described: type[T]) -> type[T]: ...
