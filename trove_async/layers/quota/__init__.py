"""`Quota`: how many bytes and objects a bucket, or what is below a prefix, may hold.

- `layer`: the layer, and what each operation of a driver means to it.
- `limits`: the limits, and which of them a key is under.
- `accounts`, `rules`: what is known about each object, and how it changes. They are plain functions of `books.Books`.
- `process`, `database`: the books in memory and in a database.
- `looking`: asks the backend what is there, where it cannot be known otherwise; `counting` does so for all objects.
"""
