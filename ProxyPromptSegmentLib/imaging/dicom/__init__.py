"""DICOM images: headers, pixels, places and series, read with pydicom; ITK's reader assumes where DICOM is silent."""
