"""The way is read out of answers that come in any order, or not at all."""

from wisp.model.echo import EchoAnswer, EchoOutcome, summary, way_of


def answer(number: int, hops: int, outcome: EchoOutcome, by: str | None = None, ms: float | None = None) -> EchoAnswer:
    return EchoAnswer(number=number, hops=hops, outcome=outcome, by=by, round_trip_ms=ms)


EXPIRED, REPLY, LOST, UNREACHABLE = EchoOutcome.EXPIRED, EchoOutcome.REPLY, EchoOutcome.LOST, EchoOutcome.UNREACHABLE


def test_the_shortest_of_several_tries_counts_and_is_told_beyond_the_hop_before() -> None:
    hops = way_of(
        [
            answer(5, 2, REPLY, "b", 7.0),
            answer(2, 2, REPLY, "b", 9.0),
            answer(0, 1, EXPIRED, "a", 4.0),
            answer(3, 1, LOST),
            answer(7, 3, REPLY, "b", 6.5),
        ]
    )
    assert [(hop.number, hop.address, hop.round_trip_ms, hop.added_ms) for hop in hops] == [
        (1, "a", 4.0, 4.0),
        (2, "b", 7.0, 3.0),
    ]


def test_one_that_does_not_answer_stands_between_those_that_do() -> None:
    hops = way_of([answer(0, 1, EXPIRED, "a", 2.0), answer(1, 2, LOST), answer(2, 3, REPLY, "c", 5.0)])
    assert [(hop.address, hop.added_ms) for hop in hops] == [("a", 2.0), (None, None), ("c", 3.0)]


def test_silence_beyond_the_last_is_left_out() -> None:
    hops = way_of([answer(0, 1, EXPIRED, "a", 2.0), *(answer(n, n + 1, LOST) for n in range(1, 9))])
    assert [hop.address for hop in hops] == ["a"]
    assert way_of([answer(0, 1, LOST)]) == []


def test_the_way_ends_with_one_that_knows_none() -> None:
    hops = way_of([answer(0, 1, EXPIRED, "a", 1.0), answer(1, 2, UNREACHABLE, "b", 2.0), answer(2, 3, UNREACHABLE)])
    assert [(hop.address, hop.outcome) for hop in hops] == [("a", EXPIRED), ("b", UNREACHABLE)]


def test_only_replies_count_as_received() -> None:
    found = summary(
        [answer(0, 0, REPLY, "a", 1.0), answer(1, 0, REPLY, "a", 4.0), answer(2, 0, UNREACHABLE, "b", 9.0),
         answer(3, 0, LOST)]
    )  # fmt: skip
    assert (found.sent, found.received, found.lost_percent) == (4, 2, 50.0)
    assert (found.shortest_ms, found.median_ms, found.longest_ms) == (1.0, 2.5, 4.0)
