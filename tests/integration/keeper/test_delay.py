"""The delay line on real packets: two namespaces, a veth pair, a rule, UDP and TCP."""


async def test_round_trips_take_what_was_declared(lab):
    found = await lab("accuracy")
    for name, declared_ms in (("1000 us", 2), ("10000 us", 20), ("10000 us, every processor busy", 20)):
        # Each way at most 0.2 ms early, for the receiver to wake up.
        assert found[name]["min"] >= declared_ms - 0.4, name
        assert abs(found[name]["p50"] - declared_ms) <= 0.3 + (found["bare"]["p50"] if "busy" in name else 0), name
    # With every processor busy, the echo and the one who asks are late too; the line itself is not.
    assert abs(found["10000 us"]["p95"] - 20) <= 2
    for late in found["late"]:
        assert sum(late[:5]) >= 0.95 * sum(late)


async def test_loss_is_what_was_declared(lab):
    found = await lab("loss")
    assert found["delayed"] + found["dropped_by_loss"] == found["sent"]
    assert found["arrived"] == found["delayed"]
    assert 0.008 <= found["dropped_by_loss"] / found["sent"] <= 0.012


async def test_jitter_keeps_the_order(lab):
    assert await lab("order") == list(range(500))


async def test_a_full_line_drops(lab):
    assert await lab("limit") == {"delayed": 10, "dropped_by_limit": 40}


async def test_tcp_is_not_slowed_down_beyond_its_window(lab):
    found = await lab("throughput")
    assert found["0 us"] > 2
    assert found["10000 us"] > 0.2


async def test_lines_come_and_go(lab):
    assert await lab("lifecycle") == {"freed": "waits", "passed": "passes", "left": ["right>left"], "wakeups": 0}
