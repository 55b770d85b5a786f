"""The keeper's protocol, spoken to a real one."""

import asyncio
import os
import signal
import statistics
import time
from pathlib import Path

import pytest

from wisp.drivers.keeper.client import KeeperClient, KeeperGone, SpawnOrder
from wisp.drivers.keeper.process import is_alive, living_keeper, read_identity, start_keeper
from wisp.primitives.errors import MissingPrerequisite, PermanentDriverError

PROC, RUN = Path("/proc"), Path("/run")


def same_file(left: int, right: int) -> bool:
    return os.path.samestat(os.fstat(left), os.fstat(right))


async def test_says_who_it_is(keeper):
    identity, namespaces = await keeper.client.hello()
    namespaces.close()
    assert identity == keeper.identity == read_identity(keeper.directory)
    assert living_keeper(keeper.directory) == identity
    assert identity.userns_inode == (PROC / str(identity.pid) / "ns" / "user").stat().st_ino


async def test_holds_and_gives_back_descriptors(keeper):
    reader, writer = os.pipe()
    await keeper.client.hold({"reader": reader, "writer": writer})
    with pytest.raises(PermanentDriverError, match="held already"):
        await keeper.client.hold({"writer": writer})
    back = await keeper.client.fetch(["writer", "reader"])
    assert same_file(back[0], writer)
    assert same_file(back[1], reader)
    assert await keeper.client.held() == ("reader", "writer")
    await keeper.client.release(["reader", "never-held"])
    await keeper.client.release(["reader"])
    assert await keeper.client.held() == ("writer",)
    with pytest.raises(PermanentDriverError, match="nothing is held as"):
        await keeper.client.fetch(["reader"])
    for descriptor in (reader, writer, *back):
        os.close(descriptor)


async def test_more_than_one_packet_of_names_and_descriptors(keeper):
    null = os.open(os.devnull, os.O_RDONLY)
    names = [f"{index:05}-{'x' * 300}" for index in range(600)]
    await keeper.client.hold(dict.fromkeys(names, null))
    assert await keeper.client.held() == tuple(names)
    back = await keeper.client.fetch(names)
    assert len(back) == 600
    for descriptor in (null, *back):
        os.close(descriptor)


async def test_runs_a_child_and_tells_its_end(keeper):
    status = await keeper.run("echo out; echo err >&2; exit 7", env={"A": "b c"})
    assert (status.state, status.exit_code, status.signal) == ("exited", 7, None)
    assert status.exited_at_ns > status.spawned_at_ns
    assert keeper.output() == "out\nerr\n"
    assert await keeper.client.children() == (status,)
    with pytest.raises(PermanentDriverError, match="forget it first"):
        await keeper.client.spawn(SpawnOrder(child_id="script", argv=("/bin/true",)))
    await keeper.client.forget("script")
    await keeper.client.forget("script")
    assert await keeper.client.children() == ()


async def test_the_pid_is_the_one_seen_from_outside(keeper):
    spawned = await keeper.client.spawn(SpawnOrder(child_id="s", argv=("/bin/sleep", "100")))
    assert (PROC / str(spawned.pid) / "exe").readlink().name == "sleep"
    ticks = (PROC / str(spawned.pid) / "stat").read_text().rpartition(")")[2].split()[19]
    assert spawned.start_ticks == int(ticks)
    assert 0 <= time.monotonic_ns() - spawned.spawned_at_ns < 1_000_000_000
    await keeper.client.signal("s", signal.SIGTERM)
    async for status in keeper.client.watch():
        assert (status.id, status.signal, status.exit_code) == ("s", signal.SIGTERM, None)
        break
    with pytest.raises(PermanentDriverError, match="does not run"):
        await keeper.client.signal("s", signal.SIGTERM)


async def test_a_child_gets_exactly_what_it_was_given(keeper):
    reader, writer = os.pipe()
    await keeper.client.hold({"w": writer})
    script = "ls -l /proc/self/fd | sed 's/.* \\([0-9]* ->\\)/\\1/' >&2; env; pwd; echo held >&9; echo passed >&3"
    env = {"PATH": os.environ["PATH"], "COLOUR": "blue"}
    status = await keeper.run(script, held={9: "w"}, passed={3: writer}, env=env, cwd="/usr")
    assert status.exit_code == 0
    output = keeper.output()
    numbers = {line.split()[0] for line in output.splitlines() if " -> " in line}
    # `ls` opens one more to look.
    assert numbers - {"4"} == {"0", "1", "2", "3", "9"}
    assert "0 -> /dev/null" in output
    assert "COLOUR=blue" in output
    assert "\n/usr\n" in output
    assert os.read(reader, 100) == b"held\npassed\n"
    os.close(reader)
    os.close(writer)


async def test_without_privilege_there_is_none(keeper):
    await keeper.run("grep -E 'Cap|NoNewPrivs' /proc/self/status; ip link add x type dummy; unshare -n true")
    output = keeper.output()
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert f"{name}:\t0000000000000000" in output
    assert "NoNewPrivs:\t1" in output
    assert "Operation not permitted" in output


async def test_with_privilege_the_network_is_its_own(keeper):
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    script = "ip link add va type veth peer name vb && ip -o link | wc -l && ip netns add x && ip netns"
    status = await keeper.run(script, privileged=True, env=path)
    assert (status.exit_code, keeper.output()) == (0, "3\nx\n")
    assert not (RUN / "netns" / "x").exists()


async def test_limits_are_kept(keeper):
    status = await keeper.run(
        "ulimit -v; ulimit -n; ulimit -c; nice", address_space_bytes=512 << 20, open_files=33, nice=5
    )
    assert status.exit_code == 0
    assert keeper.output() == f"{512 << 10}\n33\n0\n5\n"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"argv": ("/no/such",)}, "exec: No such file"),
        ({"argv": ("true",)}, "absolute path"),
        ({"argv": ()}, "absolute path"),
        ({"cwd": "/no/such"}, "chdir: No such file"),
        ({"netns": "netns/no"}, "nothing is held as"),
        ({"held": {3: "no"}}, "nothing is held as"),
        ({"held": {1: "no"}}, "nothing is held as"),
        ({"log": Path("/no/such/x.log")}, "No such file"),
        ({"log": Path("x.log")}, "not an absolute path"),
        ({"argv": ("/bin/true", "a\0b")}, "NUL"),
        ({"nice": -5}, "nice: Permission denied"),
    ],
)
async def test_what_cannot_start_is_an_error_and_leaves_nothing(keeper, fields, words):
    order = SpawnOrder(**{"child_id": "x", "argv": ("/bin/true",), **fields})
    with pytest.raises(PermanentDriverError, match=words) as caught:
        await keeper.client.spawn(order)
    assert (caught.value.operation, caught.value.subject) == ("spawn", "x")
    assert await keeper.client.children() == ()


async def test_what_a_child_left_in_its_group_ends_with_it(keeper):
    reader, writer = os.pipe()
    await keeper.run("sleep 100 & exit 0", passed={3: writer})
    os.close(writer)
    # The end of the pipe is seen once nobody has its other side.
    assert await asyncio.wait_for(asyncio.to_thread(os.read, reader, 1), 5) == b""
    os.close(reader)


async def test_several_watchers_each_hear_of_every_end(keeper):
    async def hear(count: int) -> set[str]:
        heard = set()
        async for status in keeper.client.watch():
            heard.add(status.id)
            if len(heard) == count:
                break
        return heard

    names = {f"c{index}" for index in range(200)}
    watching = [asyncio.create_task(hear(len(names))) for _ in range(3)]
    for name in names:
        await keeper.client.spawn(SpawnOrder(child_id=name, argv=("/bin/true",)))
    async with asyncio.timeout(30):
        assert await asyncio.gather(*watching) == [names] * 3
    rows = await keeper.client.children()
    assert len(rows) == 200
    assert all(row.state == "exited" for row in rows)


async def test_requests_may_be_cancelled(keeper):
    for _ in range(20):
        task = asyncio.create_task(keeper.client.hello())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert (await keeper.client.hello())[0] == keeper.identity


async def test_shutdown_ends_everything(keeper):
    await keeper.client.spawn(SpawnOrder(child_id="s", argv=("/bin/sh", "-c", "trap '' TERM; sleep 100")))
    (child,) = await keeper.client.children()
    await keeper.client.shutdown()
    assert not (PROC / str(child.pid)).exists()
    assert not is_alive(keeper.identity)
    assert not (keeper.directory / "keeper.sock").exists()
    with pytest.raises(KeeperGone):
        await KeeperClient.connect(keeper.directory)


async def test_two_clouds_do_not_meet(new_keeper):
    one, two = await new_keeper("one"), await new_keeper("two")
    await one.client.spawn(SpawnOrder(child_id="same", argv=("/bin/sleep", "100")))
    await two.client.spawn(SpawnOrder(child_id="same", argv=("/bin/sleep", "100")))
    await one.client.shutdown()
    assert is_alive(two.identity)
    assert [child.state for child in await two.client.children()] == ["running"]


async def test_a_second_keeper_is_refused(keeper, binary):
    with pytest.raises(PermanentDriverError, match="another keeper already serves"):
        await start_keeper(binary, keeper.directory)
    assert (await keeper.client.hello())[0] == keeper.identity


async def test_a_long_directory_name(tmp_path, new_keeper):
    deep = await new_keeper("d" * 200)
    assert await deep.client.held() == ()


async def test_an_instance_may_not_speak_to_the_keeper(keeper):
    script = (
        "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET);"
        f"s.connect('{keeper.directory}/keeper.sock'); print(s.recv(1000).decode())"
    )
    await keeper.run(f'/usr/bin/python3 -c "{script}"')
    assert "may not speak to its keeper" in keeper.output()


async def test_says_which_setting_forbids_namespaces(tmp_path, binary):
    # A user namespace in which making more is switched off stands for a machine that forbids them.
    script = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$0" "$@"'
    wrapper = tmp_path / "wisp-native"
    wrapper.write_text(f"#!/bin/sh\nexec unshare -Ur sh -c '{script}' {binary} \"$@\"\n")
    wrapper.chmod(0o755)
    with pytest.raises(MissingPrerequisite, match=r"user\.max_user_namespaces is 0") as caught:
        await start_keeper(wrapper, tmp_path / "cloud")
    assert caught.value.remedy == "as root: sysctl -w user.max_user_namespaces=10000"


async def test_spawns_within_a_millisecond(keeper):
    took = []
    for index in range(100):
        order = SpawnOrder(child_id=f"c{index}", argv=("/bin/true",), log=keeper.log(f"c{index}"))
        before = time.perf_counter()
        await keeper.client.spawn(order)
        took.append(time.perf_counter() - before)
    print(f"spawn request: median {statistics.median(took) * 1e3:.3f} ms, worst {max(took) * 1e3:.3f} ms")
    assert statistics.median(took) < 0.005


async def test_is_small_and_sleeps(keeper):
    for index in range(50):
        await keeper.client.spawn(SpawnOrder(child_id=f"c{index}", argv=("/bin/sleep", "100")))
    await asyncio.sleep(0.2)
    before = keeper.status_of(keeper.identity.pid, "ctxt_switches")
    await asyncio.sleep(1)
    assert keeper.status_of(keeper.identity.pid, "ctxt_switches") == before
    resident = keeper.status_of(keeper.identity.pid, "VmRSS")
    assert resident < 4096, f"{resident} KiB resident"
