"""Running tasks: one Pool protocol over this process, several processes or a Dask cluster."""
