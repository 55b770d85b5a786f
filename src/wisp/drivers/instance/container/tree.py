"""Lays the layers of a container image over each other, in memory: pure, nothing is written.

An archive that nobody vouches for cannot lead out of a tree of names, as there is nothing outside of it.

Source: OCI image specification 1.1, *layer*.
"""

from collections import deque
from collections.abc import Iterator
from tarfile import TarInfo

from wisp.primitives.errors import PermanentDriverError

MOST_BYTES = 4 << 30
MOST_NAMES = 500_000
MOST_DEEP = 128
LONGEST_NAME_BYTES = 255
MOST_LINKS = 40
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"

# Number of the layer, and place of the member in it.
Source = tuple[int, int]


class Node:
    """A folder, a file or a symbolic link; hard links are one node under several names.

    Attributes:
        mode: Permissions; without those that lend somebody else's identity.
        children: What a folder holds; ``None`` for others.
        target: Where a symbolic link points; ``None`` for others.
        source: Where a file's content is; ``None`` for others.
        layer: The last layer that said something of it.
    """

    __slots__ = ("children", "layer", "mode", "source", "target")

    def __init__(
        self,
        layer: int,
        mode: int,
        *,
        children: dict[str, "Node"] | None = None,
        target: str | None = None,
        source: Source | None = None,
    ) -> None:
        self.layer, self.mode = layer, mode & 0o777
        self.children, self.target, self.source = children, target, source


def folder(layer: int, mode: int = 0o755) -> Node:
    """Give an empty folder."""
    return Node(layer, mode, children={})


class Tree:
    """The names of a root file system, as layers are added; the lowest first."""

    def __init__(self) -> None:
        self.root = folder(0)
        self._layer = -1
        self._bytes = self._names = 0

    def begin_layer(self) -> None:
        """Begin another layer: what is added from now on lies over all that was."""
        self._layer += 1

    def add(self, member: TarInfo, position: int) -> None:
        """Add one member of the layer's archive; a whiteout takes away what lower layers brought.

        Devices and pipes are left out.

        Args:
            member: Its header.
            position: Its place in the archive.

        Raises:
            PermanentDriverError: It is no possible part of a root file system; the sentence says why.
        """
        self._count(member)
        parts = _parts(member.name)
        if not parts:
            return
        name = parts.pop()
        if name == "..":
            raise _refused(f"{member.name!r} names a folder by what is in it")
        parent = self._walk(member.name, parts)
        if name.startswith(_WHITEOUT):
            self._take_away(parent, name)
        else:
            self._put(parent, name, member, position)

    def _count(self, member: TarInfo) -> None:
        self._count_name()
        self._bytes += member.size if member.isfile() else 0
        if self._bytes > MOST_BYTES:
            raise _refused(f"it holds more than {MOST_BYTES >> 30} GiB")

    def _count_name(self) -> None:
        self._names += 1
        if self._names > MOST_NAMES:
            raise _refused(f"it holds more than {MOST_NAMES} names")

    def _put(self, parent: dict[str, Node], name: str, member: TarInfo, position: int) -> None:
        old = parent.get(name)
        if member.isdir():
            if old is None or old.children is None:
                parent[name] = folder(self._layer, member.mode)
            else:
                old.layer, old.mode = self._layer, member.mode & 0o777
        elif member.issym():
            parent[name] = Node(self._layer, 0o777, target=member.linkname)
        elif member.islnk():
            parent[name] = self._linked(member)
        elif member.isfile():
            parent[name] = Node(self._layer, member.mode, source=(self._layer, position))

    def _linked(self, member: TarInfo) -> Node:
        parts = _parts(member.linkname)
        name = parts.pop() if parts else ".."
        target = self._walk(member.linkname, parts).get(name)
        if target is None or target.children is not None:
            raise _refused(f"{member.name!r} is another name of {member.linkname!r}, which is no file in it")
        target.layer = self._layer
        return target

    def _walk(self, name: str, parts: list[str]) -> dict[str, Node]:
        """Give what the folder holds that these parts lead to, links followed as if the root were the machine's."""
        way = [self.root]
        todo = deque(parts)
        links = 0
        while todo:
            part = todo.popleft()
            if part == "..":
                way = way[:-1] or way
                continue
            node = self._inside(_children(way[-1]), part)
            if node.target is not None:
                links += 1
                way = way[:1] if node.target.startswith("/") else way
                todo.extendleft(reversed(_parts(node.target)))
            else:
                if node.children is None:
                    raise _refused(f"on the way to {name!r} lies a file")
                node.layer = self._layer
                way.append(node)
            if links > MOST_LINKS or len(way) > MOST_DEEP:
                raise _refused(f"the way to {name!r} is too long, or leads round in circles")
        return _children(way[-1])

    def _inside(self, children: dict[str, Node], name: str) -> Node:
        """Give what is in a folder, which is a new folder where there is nothing."""
        if name not in children:
            self._count_name()
            children[name] = folder(self._layer)
        return children[name]

    def _take_away(self, parent: dict[str, Node], name: str) -> None:
        """Do what a whiteout says; what its own layer brought stays."""
        if name == _OPAQUE:
            self._prune(parent)
        elif node := parent.get(hidden := name.removeprefix(_WHITEOUT)):
            if node.layer != self._layer:
                del parent[hidden]
            elif node.children is not None:
                self._prune(node.children)

    def _prune(self, children: dict[str, Node]) -> None:
        for name, node in list(children.items()):
            if node.layer != self._layer:
                del children[name]
            elif node.children is not None:
                self._prune(node.children)


def walk(root: Node, path: str = "") -> Iterator[tuple[str, Node]]:
    """Give everything below a folder by its path without a leading slash, folders before what they hold."""
    for name, node in _children(root).items():
        place = f"{path}{name}"
        yield place, node
        if node.children is not None:
            yield from walk(node, f"{place}/")


def _children(node: Node) -> dict[str, Node]:
    assert node.children is not None  # noqa: S101 - callers pass folders
    return node.children


def _parts(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if len(parts) > MOST_DEEP:
        raise _refused(f"{name[:80]!r}... is too deep")
    for part in parts:
        if "\0" in part or len(part.encode(errors="surrogateescape")) > LONGEST_NAME_BYTES:
            raise _refused(f"{part[:80]!r} is no name of a file")
    return parts


def _refused(why: str) -> PermanentDriverError:
    return PermanentDriverError(f"the container image is refused: {why}", driver="container", operation="unpack")
