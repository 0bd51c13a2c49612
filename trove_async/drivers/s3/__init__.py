"""Amazon S3, and services with the same protocol."""
