"""Waiting for a cluster's nodes, and what they may be like."""

from __future__ import annotations

import os
import subprocess

import pytest

from ddip_ray.engine.ray import process_group
from ddip_ray.engine.ray.wait_for_nodes import ClusterNode, is_alive, require_alike, wait_for_nodes
from ddip_ray.errors import InputError

FOUR = ClusterNode("10.0.0.1", 16, 4, "A100")


def test_nodes_that_are_alike() -> None:
    require_alike([FOUR, ClusterNode("10.0.0.2", 8, 4, "A100")], 4)
    require_alike([ClusterNode("10.0.0.1", 1, 0)], 0)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (
            ClusterNode("10.0.0.2", 16, 2, "A100"),
            r"expected 4 GPUs on each node, found .*10\.0\.0\.2: 16 cores, 2 GPUs",
        ),
        (ClusterNode("10.0.0.2", 16, 0), r"expected 4 GPUs on each node, found .*10\.0\.0\.2: 16 cores\."),
        (ClusterNode("10.0.0.2", 16, 4, "V100"), r"not alike: .*4 GPUs A100; .*4 GPUs V100"),
    ],
)
def test_nodes_that_are_not_alike_are_refused(other: ClusterNode, says: str) -> None:
    with pytest.raises(InputError, match=says):
        require_alike([FOUR, other], 4)


def test_ray_says_what_a_node_has() -> None:
    facts = {
        "NodeManagerAddress": "10.0.0.1",
        "Resources": {"CPU": 16.0, "GPU": 4.0, "accelerator_type:A100": 1.0, "node:10.0.0.1": 1.0},
    }
    assert ClusterNode.from_ray(facts) == FOUR


def test_a_cluster_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(InputError, match=r"0 of 2 nodes after 1 s: none \(no Ray cluster answers at"):
        wait_for_nodes(2, 0, 1.0)
    with pytest.raises(InputError, match="ended before all of its nodes were there"):
        wait_for_nodes(2, 0, 60.0, lambda: False)


def test_a_process_that_has_ended() -> None:
    assert is_alive(os.getpid())
    process = subprocess.Popen(["true"])
    process.wait()
    assert not is_alive(process.pid)


def test_gloo_uses_the_network_that_ray_does(monkeypatch: pytest.MonkeyPatch) -> None:
    names = dict[str, str]()  # not the real ones, which other tests' clusters would take over
    monkeypatch.setattr(os, "environ", names)
    process_group.talk_through("203.0.113.7")  # of nobody here
    assert names == {}
    process_group.talk_through("127.0.0.1")
    assert names == {"GLOO_SOCKET_IFNAME": "lo"}
    names["GLOO_SOCKET_IFNAME"] = "ib0"
    process_group.talk_through("127.0.0.1")
    assert names == {"GLOO_SOCKET_IFNAME": "ib0"}


def test_too_few_nodes(ray_cluster: None) -> None:
    with pytest.raises(InputError, match=r"1 of 2 nodes after 1 s: .*: 3 cores"):
        wait_for_nodes(2, 0, 1.0)
    assert [node.num_cores for node in wait_for_nodes(1, 0, 1.0)] == [3]
