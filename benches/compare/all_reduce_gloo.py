"""Times gloo's all-reduce between two processes of one machine, for all_reduce.py.

    GLOO_SOCKET_IFNAME=lo python all_reduce_gloo.py BYTES...

Prints a line a length: the bytes, and microseconds of a call, the median over rounds of the slower process. As many calls
in a row as `all_reduce_ways` makes.
"""

import statistics
import sys
import tempfile
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

ROUNDS, CALLS, ENOUGH = 15, 200, 1 << 20


def rank(me, store, sizes):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=me, world_size=2)
    for size in sizes:
        buffer, times = torch.ones(size // 4), []
        calls = max(1, min(CALLS, ENOUGH // size))
        for _ in range(ROUNDS + 1):
            buffer.fill_(1.0)
            dist.barrier()
            begun = time.perf_counter()
            for _ in range(calls):
                dist.all_reduce(buffer)
            slowest = torch.tensor([(time.perf_counter() - begun) / calls], dtype=torch.float64)
            dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
            times.append(slowest.item() * 1e6)
        if me == 0:
            print(size, statistics.median(times[1:]), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(rank, args=(f"{folder}/store", [int(size) for size in sys.argv[1:]]), nprocs=2)
