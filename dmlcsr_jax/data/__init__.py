"""Face-parsing data: label sets, sources, transforms and input pipelines."""
