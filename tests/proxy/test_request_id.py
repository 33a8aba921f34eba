import uuid

from router.proxy.request_id import RequestIds


def test_ids_are_random_uuids_of_version_4() -> None:
    ids = RequestIds()
    made = [ids.next() for _ in range(1000)]

    assert len(set(made)) == 1000
    for each in made:
        parsed = uuid.UUID(each.decode())
        assert (parsed.version, parsed.variant) == (4, uuid.RFC_4122)
        assert str(parsed).encode() == each


def test_all_digits_that_may_vary_do() -> None:
    ids = RequestIds()
    made = [ids.next() for _ in range(512)]
    fixed = [place for place in range(36) if len({each[place] for each in made}) == 1]

    assert fixed == [8, 13, 14, 18, 23]
    assert {each[19:20] for each in made} == {b"8", b"9", b"a", b"b"}
