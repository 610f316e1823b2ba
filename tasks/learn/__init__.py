"""Models: planned, trained, kept and asked; knows neither Dask, Prefect nor MLflow."""
