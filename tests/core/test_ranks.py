from __future__ import annotations

import pytest
import torch

from lct_pipeline.core.batches import Ranks

CPU = torch.device("cpu")


@pytest.mark.parametrize("num_processes", [1, 2, 3, 8])
@pytest.mark.parametrize("batch_size", [8, 13, 128])
def test_the_parts_of_all_processes_are_the_batch_in_order(
    batch_size: int, num_processes: int
) -> None:
    samples = list(range(batch_size))
    parts = [
        samples[Ranks(rank, num_processes, CPU).part(batch_size)]
        for rank in range(num_processes)
    ]
    assert [sample for part in parts for sample in part] == samples
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_the_sum_over_one_process_is_its_own() -> None:
    values = torch.tensor([1.5, -2.0])
    assert Ranks(0, 1, CPU).sum(values).tolist() == [1.5, -2.0]
