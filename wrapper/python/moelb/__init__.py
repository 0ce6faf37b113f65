"""Balanced placement of Mixture-of-Experts experts and requests, for Python engines.

    from moelb import rebalance_experts   # instead of: from eplb import rebalance_experts

gives DeepSeek's published function, array for array and several hundred times
faster. ``plan`` finds better placements, proves how good they are and moves few
replicas; ``EplbPolicy`` is the same in the shape of vLLM's policies; ``Splitter``
shares a batch's tokens among replicas. ``PrefillSession`` and ``DecodeSession`` say
which rank takes which request.

Arrays may be torch tensors, numpy arrays or nested lists; answers come in the
kind of the first argument, integers as int64, tensors on the CPU. Tensors and
arrays in C order are read in place. Calls release the interpreter's lock and may
come from any number of threads.

Bad input raises ValueError, or TypeError where something is not of a usable type,
with one line that names the field, the layer, the index and the value. A process
forked from one that had called the library cannot call it (RuntimeError): start
workers before the first call, or with ``spawn``.

From a source tree the library is built with Go and a C compiler when the package
is first imported, and kept in the user's cache. MOELB_LIBRARY names a library to
load instead.
"""

from ._experts import EplbPolicy, Plan, plan, rebalance_experts
from ._library import find as _find
from ._sessions import Chunk, DecodeSession, Lost, Move, PrefillSession
from ._split import Splitter

__all__ = ["Chunk", "DecodeSession", "EplbPolicy", "Lost", "Move", "Plan", "PrefillSession", "Splitter", "plan", "rebalance_experts"]

_find()  # so that what is missing is said here, not at the first call
