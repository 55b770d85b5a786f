"""What must hold between the parts of a description: references, placeholders, ports, names, affinities."""

from collections import defaultdict
from collections.abc import Mapping

from wisp.codec import declared, placeholder
from wisp.codec.build import vnf_path
from wisp.codec.form import Reference, Template
from wisp.codec.kinds import VARIABLE, config_problem, guest_key_problem, image_problems, vdu_problems
from wisp.codec.reader import Mention, Reader, did_you_mean, quoted
from wisp.model.description import DeclaredInstance, DesiredState, PublishedPort, Vdu
from wisp.model.peer import Peers


def check(document: declared.Document, desired: DesiredState, reader: Reader) -> None:
    """Complain to ``reader`` of everything that does not fit together."""
    services = {name: set(body.vnfs) for name, body in document.network_services.items()}
    reader.names["instances"] = {instance.name for instance in desired.instances}
    reader.names["unread"] = reader.names.get("vnfs", set()) - {instance.vnf for instance in desired.instances}
    for mention in reader.mentions:
        _check_mention(mention, reader, services)
    _check_vdus(desired, reader)
    _check_images(document, reader)
    _check_guest_options(document, reader)
    _check_names(desired, reader)
    _check_ports(desired, reader)
    _check_doors(desired, reader)
    _check_affinities(desired, reader)


def _check_mention(mention: Mention, reader: Reader, services: dict[str, set[str]]) -> None:
    match mention.form:
        case Reference(sections=("instances",)):
            known = reader.names["instances"] | services.get(_service_of(mention.path), set())
            _check_known(mention, mention.text, known, "instance or VNF", reader)
        case Reference(sections=sections):
            known = set[str]().union(*(reader.names.get(section, ()) for section in sections))
            what = " or ".join(section.removesuffix("s").replace("_", " ") for section in sections)
            _check_known(mention, mention.text, known, what, reader)
        case Template(command=in_command):
            _check_template(mention, in_command, reader)


def _service_of(path: str) -> str:
    return path.split(".")[1] if path.startswith("network_services.") else ""


def _check_known(mention: Mention, name: str, known: set[str], what: str, reader: Reader) -> None:
    if name not in known and not _may_be_known(name, what, reader):
        reader.complain(
            mention.path, f"there is no {what} {quoted(name)}", did_you_mean(name, known), line=mention.line
        )


def _may_be_known(name: str, what: str, reader: Reader) -> bool:
    """Say whether ``name`` may be an instance of a VNF with a mistake of its own, which is told already."""
    unread = reader.names["unread"] if what.startswith("instance") else ()
    return any(name == vnf or name.startswith(f"{vnf}-") for vnf in unread)


def _check_template(mention: Mention, in_command: bool, reader: Reader) -> None:
    if placeholder.is_unclosed(mention.text):
        reader.complain(mention.path, "has '${' without '}'", "write $ alone for a dollar", line=mention.line)
    for word, name in placeholder.names(mention.text):
        if word in ("address", "address6", "host"):
            known = reader.names["instances"] | reader.names.get("devices", set())
            _check_known(mention, name, known, "instance or device", reader)
        elif word == "own":
            _check_own(mention, name, reader)
        elif word == "secret" and not in_command:
            _check_known(mention, name, reader.names.get("secrets", set()), "secret", reader)
        elif word == "secret":
            hint = "hand it over in the environment: command lines are seen by everybody on the machine"
            reader.complain(mention.path, f"a secret ({quoted(name)}) in a command", hint, line=mention.line)
        elif (word, name) == ("python", "") and not in_command:
            reader.complain(mention.path, "'${python}' stands for something in commands only", line=mention.line)
        elif name or word not in placeholder.BARE:
            reader.complain(mention.path, *_unknown_placeholder(word, name), line=mention.line)


def _check_own(mention: Mention, fact: str, reader: Reader) -> None:
    if mention.path.startswith("devices."):
        what, hint = "a device has no '${own}'", f"name it: ${{address.{mention.path.split('.')[1]}}}"
        reader.complain(mention.path, what, hint, line=mention.line)
    else:
        _check_known(mention, fact, set(placeholder.OWN), "fact of an instance", reader)


def _unknown_placeholder(word: str, name: str) -> tuple[str, str]:
    shown = f"{word}.{name}" if name else word
    forms = ", ".join(
        [f"${{{each}.NAME}}" for each in placeholder.NAMED] + [f"${{{each}}}" for each in placeholder.BARE]
    )
    return f"unknown placeholder {quoted(f'${{{shown}}}')}", f"known: {forms}"


def _check_vdus(desired: DesiredState, reader: Reader) -> None:
    images = {image.name: image for image in desired.images}
    for vnfd in desired.vnfds:
        for vdu in vnfd.vdus:
            section = "vnfds" if f"vnfds.{vnfd.name}" in reader.lines else "app_descriptors"
            path = f"{section}.{vnfd.name}.vdus.{vdu.name}"
            for at, what, hint in vdu_problems(vdu, images):
                reader.complain(f"{path}.{at}" if at else path, what, hint)
            _check_config(vdu, vdu.config, f"{path}.config", reader)
    profiles = {(each.network_service, each.vnf): each for each in desired.instances}
    for (service, vnf), instance in profiles.items():
        own = {
            key: value
            for key, value in instance.vdu.config.items()
            if f"{vnf_path(service, vnf)}.config.{key}" in reader.lines
        }
        _check_config(instance.vdu, own, f"{vnf_path(service, vnf)}.config", reader)


def _check_config(vdu: Vdu, config: Mapping[str, str], path: str, reader: Reader) -> None:
    for key, value in config.items():
        if what := config_problem(vdu.kind, key, value):
            reader.complain(f"{path}.{key}", *what)


def _check_images(document: declared.Document, reader: Reader) -> None:
    for name, body in document.images.items():
        if body.role is None and f"images.{name}.role" in reader.lines:
            continue  # it has a mistake of its own, which is told already
        for at, what, hint in image_problems(body):
            reader.complain(f"images.{name}.{at}" if at else f"images.{name}", what, hint)


def _check_guest_options(document: declared.Document, reader: Reader) -> None:
    for name, image in document.images.items():
        for key in image.options:
            if what := guest_key_problem(key):
                reader.complain(f"images.{name}.options.{key}", what)
    for name, device in document.devices.items():
        for key in device.workload.environment if device.workload else ():
            if not VARIABLE.fullmatch(key):
                path = f"devices.{name}.workload.environment.{key}"
                reader.complain(path, f"{quoted(key)} is no name of a variable", "letters, digits, _")


def _check_names(desired: DesiredState, reader: Reader) -> None:
    """Routers, instances and devices share one space of names: ``wisp logs NAME`` must mean one thing."""
    _check_nodes(desired, reader)
    paths = {device.name: f"devices.{device.name}" for device in desired.devices}
    for router in desired.routers:
        if other := paths.get(router.name):
            reader.complain(f"routers.{router.name}", f"has the name of {other}", "rename one of them")
        paths[router.name] = f"routers.{router.name}"
    for instance in desired.instances:
        here = vnf_path(instance.network_service, instance.vnf)
        if instance.name in paths:
            what = f"instance {instance.name!r} has the name of {paths[instance.name]}"
            reader.complain(here, what, "rename one of them")
        paths.setdefault(instance.name, here)
    for instance in desired.instances:
        if instance.elasticity is not None:
            for number in range(1, 2 * instance.elasticity.maximum + 1):
                if other := paths.get(replica := f"{instance.name}-{number}"):
                    what = f"its instances have names like {replica!r}, which is that of {other}"
                    reader.complain(vnf_path(instance.network_service, instance.vnf), what, "rename one of them")
                    break


def _check_nodes(desired: DesiredState, reader: Reader) -> None:
    """Links name hosts and routers alike."""
    hosts = {host.name for host in desired.hosts}
    for router in desired.routers:
        if router.name in hosts:
            reader.complain(f"routers.{router.name}", f"has the name of hosts.{router.name}", "rename one of them")


def _check_ports(desired: DesiredState, reader: Reader) -> None:
    taken: dict[tuple[str, int], list[tuple[str, str]]] = defaultdict(list)
    for instance in desired.instances:
        path = f"{vnf_path(instance.network_service, instance.vnf)}.publish"
        for port in instance.publish:
            clash = next((who for address, who in taken[port.protocol, port.port] if _meet(address, port)), None)
            if clash is not None:
                what = f"port {port.port}/{port.protocol} for {instance.name} is taken by {clash}"
                reader.complain(path, what, "publish each port once; a VNF per site needs a port per site")
            taken[port.protocol, port.port].append((port.address, instance.name))


def _meet(address: str, port: PublishedPort) -> bool:
    return address == port.address or {address, port.address} & {"0.0.0.0", "::"} != set()  # noqa: S104


def _check_doors(desired: DesiredState, reader: Reader) -> None:
    known = {instance.name for instance in desired.instances}
    for device in desired.devices:
        name = device.external.to[0] if device.external else ""
        if device.external and name not in known and not _may_be_known(name, "instance", reader):
            path = f"devices.{device.name}.external.to"
            reader.complain(path, f"there is no instance {quoted(name)}", did_you_mean(name, known))


def _check_affinities(desired: DesiredState, reader: Reader) -> None:
    """Complain of instances that must and must not share a host."""
    peers = Peers(desired.instances)
    group = _Groups()
    for instance in desired.instances:
        for word in instance.constraints.affinity:
            for other in peers.named(instance, word):
                group.join(instance.name, other)
    for instance in desired.instances:
        for word in instance.constraints.anti_affinity:
            if any(group.of(other) == group.of(instance.name) for other in peers.named(instance, word)):
                _complain_of_contradiction(instance, word, reader)


def _complain_of_contradiction(instance: DeclaredInstance, word: str, reader: Reader) -> None:
    path = f"{vnf_path(instance.network_service, instance.vnf)}.placement.anti_affinity"
    what = f"{instance.name} must not share a host with {word}, yet affinity puts them together"
    reader.complain(path, what, "remove one of both")


class _Groups:
    """Which names belong together (union-find with path halving)."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def of(self, name: str) -> str:
        """Give the name that stands for the group."""
        while (parent := self._parent.setdefault(name, name)) != name:
            self._parent[name] = name = self._parent.setdefault(parent, parent)
        return name

    def join(self, one: str, other: str) -> None:
        """Make two groups one."""
        self._parent[self.of(one)] = self.of(other)
