# SPDX-License-Identifier: MIT
"""What is particular to the search trees and the skip list: that check() finds each kind of
damage, extreme keys, shapes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pyhac

pytest.importorskip("numba", reason="numba is not installed")

from examples.datastructs import (
    STRUCTURES,
    OrderedKeys,
    aa_tree,
    avl_tree,
    red_black_tree,
    skip_list,
    splay_tree,
)
from examples.datastructs.binary_search_tree import BinarySearchTree
from examples.datastructs.memory import FREE, HEADER, LENGTH, NULL, ROOT
from examples.datastructs.search_tree import KEY, LEFT, RIGHT, SearchTree

TREES = ("aa", "avl", "rb", "splay", "tree")
ORDERED = (*TREES, "dsl")
KEYS = [(7 * i) % 100 for i in range(100)]


@pytest.fixture
def ctx() -> Iterator[pyhac.Context]:
    with pyhac.open() as context:
        yield context


def filled(ctx: pyhac.Context, name: str) -> SearchTree:
    tree = STRUCTURES[name](ctx, name)
    assert isinstance(tree, SearchTree)
    with ctx.transaction():
        for key in KEYS:
            tree.insert(key)
    tree.check()
    return tree


def node_with(tree: SearchTree, suits: Callable[[int], bool]) -> int:
    return next(int(node) for node in tree.nodes() if suits(int(node)))


def leaf(tree: SearchTree) -> int:
    nil, words = tree.nil, tree.words
    return node_with(tree, lambda node: words[node + LEFT] == words[node + RIGHT] == nil)


def exchange_keys(tree: SearchTree) -> None:
    one, two = (int(node) + KEY for node in tree.nodes()[[30, 60]])
    tree.words[[one, two]] = tree.words[[two, one]]


def lead_back(tree: SearchTree) -> None:
    tree.words[leaf(tree) + LEFT] = tree.root


def lead_out(tree: SearchTree) -> None:
    tree.words[leaf(tree) + RIGHT] = 1 << 30


def lose_a_leaf(tree: SearchTree) -> None:
    words, lost = tree.words, leaf(tree)
    for node in tree.nodes():
        for link in (int(node) + LEFT, int(node) + RIGHT):
            if words[link] == lost:
                words[link] = tree.nil


def miscount(tree: SearchTree) -> None:
    tree.head[LENGTH] -= 1


def adopt_by_sentinel(tree: SearchTree) -> None:
    tree.words[tree.nil + LEFT] = tree.root


def grow_a_leaf(tree: SearchTree) -> None:
    tree.words[leaf(tree) + avl_tree.HEIGHT] += 1


def lean(tree: SearchTree) -> None:
    """Only one node is left of the root; every height is right."""
    words, nodes, root = tree.words, tree.nodes(), tree.root
    smaller = nodes[words[nodes + KEY] < words[root + KEY]]
    words[root + LEFT] = smaller[0]
    words[smaller[0] + LEFT : smaller[0] + avl_tree.NODE] = NULL, NULL, 0
    words[root + avl_tree.HEIGHT] = words[words[root + RIGHT] + avl_tree.HEIGHT] + 1
    tree.head[LENGTH] -= len(smaller) - 1


def raise_a_leaf(tree: SearchTree) -> None:
    tree.words[leaf(tree) + aa_tree.LEVEL] += 1


def raise_the_sentinel(tree: SearchTree) -> None:
    tree.words[aa_tree.NIL + aa_tree.LEVEL] = -1


def three_in_a_row(tree: SearchTree) -> None:
    """Two more nodes of level 1 to the right of the last, which is of level 1 too."""
    words, nil = tree.words, aa_tree.NIL
    end = int(tree.nodes()[-1])
    for key in (1000, 1001):
        new = int(tree.head[FREE]) + HEADER
        tree.head[FREE] = new + aa_tree.NODE
        words[new : new + aa_tree.NODE] = key, nil, nil, 1
        words[end + RIGHT] = new
        end = new
        tree.head[LENGTH] += 1


def blacken(tree: SearchTree) -> None:
    colour = tree.words[red_black_tree.COLOUR :]
    colour[node_with(tree, lambda node: colour[node] == red_black_tree.RED)] = red_black_tree.BLACK


def redden_a_parent(tree: SearchTree) -> None:
    words, colour = tree.words, red_black_tree.COLOUR
    red = red_black_tree.RED
    node = node_with(
        tree,
        lambda node: (
            node != tree.root
            and words[node + colour] != red
            and words[words[node + LEFT] + colour] == red
        ),
    )
    words[node + colour] = red


def redden_the_root(tree: SearchTree) -> None:
    tree.words[tree.root + red_black_tree.COLOUR] = red_black_tree.RED


def paint_a_leaf_green(tree: SearchTree) -> None:
    tree.words[leaf(tree) + red_black_tree.COLOUR] = 2


ANY_DAMAGE = (
    (exchange_keys, "out of order"),
    (lead_back, "more nodes than keys"),
    (lead_out, "out of the area"),
    (lose_a_leaf, "fewer nodes than keys"),
    (miscount, "more nodes than keys"),
)
DAMAGE = [(name, *row) for name in TREES for row in ANY_DAMAGE] + [
    ("aa", adopt_by_sentinel, "sentinel has children"),
    ("rb", adopt_by_sentinel, "sentinel has children"),
    ("splay", adopt_by_sentinel, "sentinel has children"),
    ("avl", grow_a_leaf, "a height is wrong"),
    ("avl", lean, "out of balance"),
    ("aa", raise_a_leaf, "level"),
    ("aa", raise_the_sentinel, "sentinel's level"),
    ("aa", three_in_a_row, "in a row"),
    ("rb", blacken, "more black nodes"),
    ("rb", redden_a_parent, "red child"),
    ("rb", redden_the_root, "root is not black"),
    ("rb", paint_a_leaf_green, "neither red nor black"),
]


@pytest.mark.parametrize(
    ("name", "damage", "words"), DAMAGE, ids=[f"{row[0]}-{row[1].__name__}" for row in DAMAGE]
)
def test_check_finds_damage_and_abort_mends_it(
    ctx: pyhac.Context, name: str, damage: Callable[[SearchTree], None], words: str
) -> None:
    tree = filled(ctx, name)
    with ctx.transaction():
        damage(tree)
        with pytest.raises(AssertionError, match=words):
            tree.check()
        raise pyhac.Abort
    tree.check()
    assert list(tree) == sorted(KEYS)


def at_level(keys: skip_list.SkipList, level: int) -> list[int]:
    """The nodes of a level of the skip list, 0 the lowest."""
    words, firsts = keys.words, [int(keys.head[ROOT])]
    while words[firsts[-1] + skip_list.DOWN] != skip_list.BOTTOM:
        firsts.append(int(words[firsts[-1] + skip_list.DOWN]))
    nodes = [firsts[-1 - level]]
    while words[nodes[-1] + skip_list.RIGHT] != skip_list.TAIL:
        nodes.append(int(words[nodes[-1] + skip_list.RIGHT]))
    return nodes


def misplace_a_key(keys: skip_list.SkipList) -> None:
    keys.words[at_level(keys, 0)[50] + KEY] -= 7


def lose_the_last(keys: skip_list.SkipList) -> None:
    keys.words[at_level(keys, 0)[-2] + skip_list.RIGHT] = skip_list.TAIL


def lead_down_wrong(keys: skip_list.SkipList) -> None:
    words, above = keys.words, at_level(keys, 1)[5]
    words[above + skip_list.DOWN] = words[words[above + skip_list.DOWN] + skip_list.RIGHT]


def crowd_the_first_gap(keys: skip_list.SkipList) -> None:
    """Three more nodes on the lowest level, and none above that would part them."""
    words, above = keys.words, at_level(keys, 1)[0]
    for key in (-1, -2, -3):
        new = int(keys.head[FREE]) + HEADER
        keys.head[FREE] = new + skip_list.NODE
        first = words[above + skip_list.DOWN]
        words[new : new + skip_list.NODE] = key, first, skip_list.BOTTOM
        words[above + skip_list.DOWN] = new
        keys.head[LENGTH] += 1


def empty_a_gap(keys: skip_list.SkipList) -> None:
    """A node of the lowest level that is skipped by nobody: its neighbours are taken out."""
    words = keys.words
    above = at_level(keys, 1)[2]
    first = int(words[above + skip_list.DOWN])
    while words[first + KEY] != words[above + KEY]:
        words[[first + KEY, first + skip_list.RIGHT]] = words[
            [words[first + skip_list.RIGHT] + KEY, words[first + skip_list.RIGHT] + skip_list.RIGHT]
        ]


def go_on_behind_the_end(keys: skip_list.SkipList) -> None:
    keys.words[keys.head[ROOT] + skip_list.RIGHT] = keys.head[ROOT]


def lose_the_bottom(keys: skip_list.SkipList) -> None:
    keys.words[skip_list.BOTTOM + skip_list.DOWN] = keys.head[ROOT]


def count_too_many(keys: skip_list.SkipList) -> None:
    keys.head[LENGTH] += 1


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (misplace_a_key, "out of order"),
        (lose_the_last, "out of its level"),
        (lead_down_wrong, "middle of a group"),
        (crowd_the_first_gap, "more than three"),
        (empty_a_gap, "a gap is empty"),
        (go_on_behind_the_end, "more than one node"),
        (lose_the_bottom, "sentinel 1 leads to"),
        (count_too_many, "100 nodes on the lowest level"),
    ],
)
def test_check_finds_damage_in_a_skip_list(
    ctx: pyhac.Context, damage: Callable[[skip_list.SkipList], None], words: str
) -> None:
    keys = skip_list.SkipList(ctx, "keys")
    with ctx.transaction():
        for key in KEYS:
            keys.insert(key)
    keys.check()
    with ctx.transaction():
        damage(keys)
        with pytest.raises(AssertionError, match=words):
            keys.check()
        raise pyhac.Abort
    keys.check()
    assert list(keys) == sorted(KEYS)


@pytest.mark.parametrize("name", ORDERED)
def test_extreme_keys(ctx: pyhac.Context, name: str) -> None:
    keys = STRUCTURES[name](ctx, name)
    assert isinstance(keys, OrderedKeys)
    largest = 2**31 - (2 if name == "dsl" else 1)
    for turn in range(2):
        for key in (0, -(2**31), largest, -1, 1):
            assert key not in keys
            assert keys.insert(key)
            assert not keys.insert(key)
            keys.check()
        assert list(keys) == [-(2**31), -1, 0, 1, largest]
        for key in (largest, -(2**31), 1, 0, -1) if turn else (-1, 0, 1, -(2**31), largest):
            assert keys.find(key)
            assert keys.delete(key)
            assert not keys.delete(key)
            keys.check()
        assert list(keys) == []
        assert not keys.find(0)


def test_the_key_that_ends_a_skip_lists_levels(ctx: pyhac.Context) -> None:
    keys = skip_list.SkipList(ctx, "keys")
    with pytest.raises(ValueError, match="below 2147483647"):
        keys.insert(2**31 - 1)
    assert not keys.find(2**31 - 1)
    assert not keys.delete(2**31 - 1)
    assert len(keys) == 0
    keys.check()


def test_a_skip_list_grows_and_shrinks_in_levels(ctx: pyhac.Context) -> None:
    keys = skip_list.SkipList(ctx, "keys")
    with ctx.transaction():
        for key in range(1000):
            keys.insert(key)
    levels = 0
    while len(at_level(keys, levels)) > 1:
        levels += 1
    assert 5 <= levels <= 10  # groups of four nodes, of two nodes
    with ctx.transaction():
        for key in range(1000):
            assert keys.delete(key)
    keys.check()
    assert len(at_level(keys, 0)) == 1


def test_a_tree_as_deep_as_it_has_keys(ctx: pyhac.Context) -> None:
    tree = BinarySearchTree(ctx, "tree")
    with ctx.transaction():
        for key in range(4000):
            tree.insert(key)
    tree.check()
    assert list(tree) == list(range(4000))
    with ctx.transaction():
        for key in range(3999, -1, -1):
            assert tree.delete(key)
    assert len(tree) == 0


def test_a_used_key_comes_to_the_root(ctx: pyhac.Context, tmp_path: Path) -> None:
    image = tmp_path / "image"
    with pyhac.open(image) as writer:
        tree = splay_tree.SplayTree(writer, "tree")
        for key in KEYS:
            tree.insert(key)
        for key in (0, 99, 50):
            assert tree.find(key)
            assert tree.words[tree.root + KEY] == key
        before = tree.words.copy()
        assert 17 in tree
        assert 100 not in tree
        assert (tree.words == before).all()
    with pyhac.open(image, readonly=True) as reader:
        tree = splay_tree.SplayTree(reader, "tree")
        tree.check()
        assert 17 in tree
        assert list(tree) == sorted(KEYS)
        with pytest.raises(pyhac.Error):
            tree.find(17)
