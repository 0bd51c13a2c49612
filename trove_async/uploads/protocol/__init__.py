"""The protocols of resumable uploads, without I/O: requests to commands, results to answers."""
