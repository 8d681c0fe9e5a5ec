"""From the calls in a pickle to tensors: which rebuilder was called with what, as views of storages."""

from __future__ import annotations

from typing import Any

from fifomark.torchfile.source import Broken, Problem
from fifomark.torchfile.stand_ins import Inert, Stand, StorageRef, Trace, pairs_of, render

_LIMIT = 1 << 62
MAX_PROBLEMS = 200
MAX_WRAPPERS = 8  # a Parameter around a tensor is one

STORAGE_DTYPES = {
    f"torch.{kind}Storage": dtype
    for kind, dtype in {
        "Float": "float32",
        "Double": "float64",
        "Half": "float16",
        "BFloat16": "bfloat16",
        "Long": "int64",
        "Int": "int32",
        "Short": "int16",
        "Char": "int8",
        "Byte": "uint8",
        "Bool": "bool",
        "ComplexFloat": "complex64",
        "ComplexDouble": "complex128",
        "QInt8": "qint8",
        "QUInt8": "quint8",
        "QInt32": "qint32",
        "QUInt4x2": "quint4x2",
        "QUInt2x4": "quint2x4",
    }.items()
} | {"torch.storage.UntypedStorage": "uint8", "torch.UntypedStorage": "uint8"}
# Old CUDA-built files name the storage types by their old home.
STORAGE_DTYPES |= {name.replace("torch.", "torch.cuda.", 1): dtype for name, dtype in STORAGE_DTYPES.items() if name.count(".") == 1}

ITEM_BYTES = {
    "float32": 4, "float64": 8, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "bool": 1,
    "complex64": 8, "complex128": 16, "qint8": 1, "quint8": 1, "qint32": 4, "quint4x2": 1, "quint2x4": 1,
}  # fmt: skip

REBUILDERS = frozenset(
    f"torch._utils.{name}"
    for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter", "_rebuild_parameter_with_state")
) | {"torch._tensor._rebuild_from_type_v2"}

# Rebuilders of what is no plain dense tensor, by what follows "_rebuild_" in their names.
_OTHER_KINDS = {
    "sparse_tensor": "a sparse tensor: call .to_dense() on it before saving",
    "nested_tensor": "a nested tensor: save its parts, or call .to_padded_tensor(0) on it",
    "njt": "a nested tensor: save its parts, or call .to_padded_tensor(0) on it",
    "qtensor": "a quantized tensor: call .dequantize() on it before saving",
    "meta_tensor_no_storage": "a tensor on the meta device, which has no numbers: load the weights first",
    "device_tensor_from_numpy": "a tensor of a device that torch saves in another way: call .cpu() on it before saving",
    "device_tensor_from_cpu_tensor": "a tensor of a device that torch saves in another way: call .cpu() on it before saving",
}

# Calls that are interpreted, and so not listed one by one.
QUIET = REBUILDERS | {"collections.OrderedDict", "torch.Size", "builtins.set", "torch.device"}

_DTYPE_NAMES = (
    "float16 float32 float64 bfloat16 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool complex32 complex64 complex128 "
    "float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu float4_e2m1fn_x2"
)


class StorageTable:
    """The storages that a container offers, by key; filled by zip directories and legacy tables."""

    __slots__ = ("_dtypes", "_find", "_index", "used")

    def __init__(self, find: Any) -> None:
        """`find(ref)` gives (key, start, stored, nbytes, method, crc32), or raises Broken where there is none."""
        self._find = find
        self._index: dict[str, int] = {}
        self._dtypes: dict[str, str | None] = {}
        self.used: list[tuple[str, int, int, int, int, int | None]] = []

    def index(self, ref: StorageRef) -> int:
        known = self._index.get(ref.key)
        if known is None:
            self.used.append(self._find(ref))
            known = self._index[ref.key] = len(self.used) - 1
        self._agrees(ref, known)
        return known

    def complete(self, refs: list[StorageRef]) -> None:
        """Find what no tensor shows as well; Broken where a storage that the pickle names is missing, or named in two ways."""
        for ref in refs:
            self.index(ref)

    def _agrees(self, ref: StorageRef, known: int) -> None:
        where = f"storage {ref.key[:100]}"
        if ref.tampered:
            raise Broken("FM211", where, "something is put into a storage after it was named", ref.kind)
        dtype, nbytes = STORAGE_DTYPES.get(ref.kind), self.used[known][3]
        if self._dtypes.setdefault(ref.key, dtype) != dtype and nbytes:
            # torch gives every tensor of it the type that comes first.
            raise Broken("FM109", where, "the pickle gives it two types", f"{self._dtypes[ref.key]} and {dtype}")
        item = ITEM_BYTES.get(dtype or "")
        if item is not None and (type(ref.numel) is not int or ref.numel != nbytes // item):
            # torch checks this, but not under mmap=True, where the bytes of its neighbours would show.
            said = render(ref.numel)
            raise Broken("FM109", where, f"the pickle gives it {said} elements, the file {nbytes // item}", ref.kind)


class Tensors:
    """Every tensor seen so far, each once."""

    __slots__ = ("_by_node", "_keep", "_trace", "_views", "limit", "list", "problems", "storages")

    def __init__(self, storages: StorageTable, trace: Trace, limit: int, problems: list[Problem]) -> None:
        self.storages, self._trace, self.limit, self.problems = storages, trace, limit, problems
        self.list: list[tuple[int, str, list[int], list[int], int]] = []
        self._by_node: dict[int, int | None] = {}
        self._keep: list[Any] = []
        self._views: dict[str, tuple[Any, ...]] = {}

    def index(self, node: Any, where: str, depth: int = 0) -> int | None:
        """The tensor that `node` would have become; None where it is none, or one that is not understood (then a problem says so)."""
        if not isinstance(node, Inert) or type(node).full_name[:6] != "torch.":
            return None
        if id(node) not in self._by_node:
            self._keep.append(node)
            self._by_node[id(node)] = None  # a tensor inside its own arguments ends here
            self._by_node[id(node)] = self._interpreted(node, where, depth)
        return self._by_node[id(node)]

    def complete(self, nodes: list[Inert]) -> None:
        """Look at what is in no dict, list or module as well: loading the file makes it all the same."""
        for node in nodes:
            self.index(node, "a tensor beside the weights")

    def _interpreted(self, node: Inert, where: str, depth: int) -> int | None:
        name = type(node).full_name
        if name not in REBUILDERS:
            if name.startswith("torch.nn.parameter.Uninitialized"):
                self._problem(
                    "FM304", where, "a parameter of a lazy layer that was never made: run the model on one batch, then save it", name
                )
            elif "._rebuild_" in name:
                self._problem("FM304", where, _other_kind(name), name)
            return None
        if node.how != "call":
            return None
        try:
            if node.states or node.items or node.values:
                raise Broken(
                    "FM211", where, "something is put into a tensor after it was made", render([node.states, node.items, node.values])
                )
            return self._rebuilt(name, node.args, where, depth)
        except (TypeError, ValueError, IndexError) as e:
            self._problem("FM304", where, "a tensor is described in a way that torch does not write", f"{render(node)[:300]}: {e}")
        except Broken as e:
            self._problem(*e.problem)
        return None

    def _problem(self, code: str, where: str, message: str, evidence: str | None = None) -> None:
        """A hundred thousand tensors may all have the same fault: a few are enough."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(code, where, message, evidence))

    def _rebuilt(self, name: str, args: tuple[Any, ...], where: str, depth: int) -> int | None:
        kind = name.rsplit(".", 1)[1]
        if depth > MAX_WRAPPERS:
            raise ValueError("it is wrapped in itself too often")
        if kind == "_rebuild_from_type_v2":
            function, _, inner, *_ = args
            if isinstance(function, Stand) and function.full_name in REBUILDERS - {name} and isinstance(inner, tuple):
                return self._rebuilt(function.full_name, inner, where, depth + 1)
            if isinstance(function, Stand) and "._rebuild_" in function.full_name:
                raise Broken("FM304", where, _other_kind(function.full_name), function.full_name)
            raise ValueError("it is rebuilt by something unknown")
        if kind.startswith("_rebuild_parameter"):
            self._unhooked(args[2], where)
            data = self.index(args[0], where, depth + 1)
            if data is None and not isinstance(args[0], Inert):
                raise ValueError("a parameter holds no tensor")
            return data
        storage, offset, shape, stride = args[:4]
        if not isinstance(storage, StorageRef):
            raise ValueError("it has no storage")
        dtype = STORAGE_DTYPES.get(storage.kind)
        if kind != "_rebuild_tensor":
            self._unhooked(args[5], where)
            self._eager(args[7:] if kind == "_rebuild_tensor_v3" else args[6:], where)
        if kind == "_rebuild_tensor_v3":
            dtype = self._dtype(args[6])
        if dtype is None:
            raise Broken("FM304", where, "a storage of an unknown type", storage.kind)
        return self._added(storage, dtype, _ints(shape), _ints(stride), _ints((offset,))[0], where)

    def _unhooked(self, hooks: Any, where: str) -> None:
        """A tensor's backward hooks are callables; honest files have none. Raises Broken (FM211) where there are."""
        if hooks is not None and pairs_of(hooks) != []:
            raise Broken("FM211", where, "a tensor has backward hooks, which training would call", render(hooks))

    def _eager(self, metadata: tuple[Any, ...], where: str) -> None:
        """A tensor may be the lazy conjugate or negative of its bytes: refused, since its numbers are not the ones in the file."""
        if metadata and metadata[0] is not None and any(value is not False for _, value in pairs_of(metadata[0]) or [("", metadata[0])]):
            raise Broken(
                "FM304", where, "a lazily conjugated or negated tensor: call .resolve_conj().resolve_neg() on it", render(metadata[0])
            )

    def _viewed(self, storage: StorageRef) -> Any:
        """Where the legacy format's view of a storage, (key, offset, size), begins. torch knows views by their keys: the first of a key is
        all of them."""
        key, start, size = storage.view
        known = self._views.setdefault(str(key), (storage.key, start, size))
        if known != (storage.key, start, size) or str(key) == storage.key:
            raise Broken("FM109", f"storage {storage.key[:100]}", "two views of it have one name", render(storage.view))
        return start

    def _dtype(self, value: Any) -> str | None:
        if isinstance(value, Stand) and value.full_name.startswith("torch.") and value.full_name[6:] in _DTYPE_NAMES.split():
            self._trace.use(value.full_name, "dtype")
            return value.full_name[6:]
        return None

    def _added(self, storage: StorageRef, dtype: str, shape: list[int], stride: list[int], offset: int, where: str) -> int:
        if storage.view is not None:
            start = self._viewed(storage)
            (offset,) = _ints((offset + _ints((start,))[0],))
        if len(shape) != len(stride) or len(shape) > 64:
            raise ValueError("shape and stride do not fit each other")
        if len(self.list) >= self.limit:
            raise Broken("FM110", where, f"more than {self.limit} tensors")
        self.list.append((self.storages.index(storage), dtype, shape, stride, offset))
        return len(self.list) - 1


def _other_kind(name: str) -> str:
    kind = name.rsplit("._rebuild_", 1)[1]
    return _OTHER_KINDS.get(kind, f"a tensor of a kind that is not understood ({kind[:100]})")


def _ints(values: Any) -> list[int]:
    if isinstance(values, Inert) and type(values).full_name == "torch.Size" and len(values.args) == 1:
        values = values.args[0]
    if not isinstance(values, tuple):  # a list may be changed after the tensor was made
        raise TypeError("numbers are expected")
    for value in values:
        if type(value) is not int or not 0 <= value < _LIMIT:
            raise Broken("FM301", "a tensor", "a shape, stride or offset that no tensor can have", render(value))
    return list(values)
