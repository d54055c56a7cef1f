from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from lct_pipeline.core.ordered_map import ordered_map


def test_an_endless_series_is_taken_only_as_far_as_there_is_room() -> None:
    taken: list[int] = []

    def endless() -> Iterator[int]:
        number = 0
        while True:
            taken.append(number)
            yield number
            number += 1

    with ThreadPoolExecutor(3) as pool:
        results = ordered_map(str, endless(), pool.submit, ahead=4)
        assert taken == []
        for done in range(1, 20):
            next(results)
            assert len(taken) <= done + 4 - 1
        results.close()
