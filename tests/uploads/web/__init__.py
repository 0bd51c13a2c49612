"""The apps that serve resumable uploads, over sockets."""
