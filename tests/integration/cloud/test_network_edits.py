"""A network of a running cloud grows, changes and shrinks, router by router and link by link, while packets flow."""

import asyncio
import subprocess
import sys
import threading

from tests.integration.cloud.place import Place


def ping(place: Place, count: int, pause_s: str) -> str:
    address = "172.24.0.3"
    done = place.wisp("exec", "-c", "net", "a", "--", "ping", "-c", str(count), "-i", pause_s, "-W", "1", address)
    return done.out + done.err


def test_a_network_is_made_changed_and_taken_away_by_commands(place: Place) -> None:
    (place.directory / "net.yaml").write_text("cloud: net\n")
    place.ok("up", "net.yaml")
    place.ok("router", "add", "a", "b", "c")
    place.ok("link", "add", "a", "b", "--delay", "20ms")
    assert "unreachable" in ping(place, 1, "0.2")
    links = place.ok("link", "add", "b", "c")
    assert [(each["name"], each["ends"]) for each in links] == [("a-b", ["a", "b"]), ("b-c", ["b", "c"])]
    assert float(ping(place, 2, "0.2").rpartition("= ")[2].split("/")[0]) >= 38
    place.ok("link", "set", "a-b", "--forward", "--delay", "none")
    assert 18 <= float(ping(place, 2, "0.2").rpartition("= ")[2].split("/")[0]) <= 38
    # Another way, and then the first one goes: not one packet is lost over it.
    lost: list[str] = []
    pinging = threading.Thread(target=lambda: lost.append(ping(place, 300, "0.01")))
    pinging.start()
    place.ok("router", "add", "d")
    place.ok("link", "add", "a", "d")
    place.ok("link", "add", "d", "c")
    place.ok("link", "rm", "a-b", "b-c")
    place.ok("router", "rm", "b")
    pinging.join()
    assert ", 0% packet loss" in lost[0]
    assert [each["name"] for each in place.ok("router", "ls")] == ["a", "c", "d"]
    done = place.wisp("link", "rm", "a-b")
    assert done.status != 0
    assert "no link 'a-b'; there are: a-d, d-c" in done.err
    # What was wanted before comes back, as after any other change.
    place.ok("rollback")
    assert [each["name"] for each in place.ok("router", "ls")] == ["a", "b", "c", "d"]


def test_changes_at_once_are_all_kept(place: Place) -> None:
    (place.directory / "net.yaml").write_text("cloud: net\n")
    place.ok("up", "net.yaml")
    names = [f"r{number}" for number in range(5)]

    async def all_at_once() -> None:
        await asyncio.gather(*(asyncio.to_thread(place.ok, "router", "add", name) for name in names))

    asyncio.run(all_at_once())
    assert sorted(each["name"] for each in place.ok("router", "ls")) == names


def test_ten_calls_of_python_make_a_network(place: Place) -> None:
    program = place.directory / "ring.py"
    program.write_text(
        "import asyncio, pathlib\n"
        "import wisp\n"
        "async def main():\n"
        "    pathlib.Path('ring.yaml').write_text('cloud: ring')\n"
        "    cloud = wisp.Cloud(pathlib.Path('ring.yaml'))\n"
        "    await cloud.up()\n"
        "    await cloud.network.add_routers('a', 'b', 'c')\n"
        "    for first, second in ('ab', 'bc', 'ca'):\n"
        "        await cloud.network.add_link(first, second, delay='1ms')\n"
        "    await cloud.network.set_link('a-b', rate='10Mbit')\n"
        "    print(await cloud.run('a', ['ping', '-c', '1', '-W', '2', '172.24.0.2']))\n"
        "    print(len(cloud.network.routers()), len(cloud.network.links()))\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, program],
        env=place.environment,
        cwd=place.directory,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert " 0% packet loss" in done.stdout
    assert done.stdout.endswith("3 3\n")
