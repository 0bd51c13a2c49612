"""Google Cloud Storage: `trove_async.drivers.gcs.driver` is the driver; the rest are its parts."""
