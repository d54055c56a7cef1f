"""The only input and output of the project, in the manner of kedro-datasets."""
