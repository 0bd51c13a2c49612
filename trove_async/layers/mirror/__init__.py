"""`Mirror`: a store that keeps a copy of every object in each of several stores.

The model
    A *member* is a store that holds a copy of every object. The *queue* is a database that is shared by all processes
    that use the mirror. A *generation* names one state of one key; it is the object's ETag, and stands in hidden
    metadata of each copy. A *repair* in the queue says that one member's copy of one key is not what it should be.

    A copy is *good* if its member has no repair for the key. Only good copies are read, listed and copied from.

A write
    1. An intent is recorded in the queue. It keeps other writers of the key out, in all processes.
    2. Conditions are evaluated against the first good copy, in the order of the members.
    3. The members are written at the same time.
    4. One transaction removes the intent, forgets the repairs of the members that were written, and queues a repair for
       each that was not.

    A process that dies before 1 has changed nothing. After 1, its intent expires, and whoever finds it looks at the
    members: if one of them has the new generation, the write counts as committed, and repairs are queued for the
    others; if none has it, the intent is dropped. If a member cannot be reached that may have it, the intent stays
    until the member is back, or until the key is written again.

A repair
    Copies the object from a good copy, under an intent of its own, so that no writer is overtaken. A deletion that a
    member has missed is a repair too, so that the object does not come back. No repair deletes an object that nobody
    has deleted, and none replaces a copy without having read another one to its end.
"""

from trove_async.layers.mirror.target import Mirror

__all__ = ["Mirror"]
