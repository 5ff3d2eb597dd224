from collections.abc import Callable

class SampleDataSource:
    sampleName: str
    sampleDescription: str

class SampleDataLogic:
    @staticmethod
    def registerCustomSampleDataCategory(category: str, title: str) -> None: ...
    @staticmethod
    def registerCustomSampleDataSource(
        category: str,
        sampleName: str,
        uris: str,
        fileNames: str,
        nodeNames: str,
        thumbnailFileName: str,
        customDownloader: Callable[[SampleDataSource], object],
    ) -> None: ...
