"""A store with layers on a real S3 server that is killed, stalls, throttles, and is slow now and then."""
