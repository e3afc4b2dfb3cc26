# SPDX-License-Identifier: MIT
"""Each structure of the examples beside a plain Python object that ought to hold the same."""

import heapq
import random
from collections import deque
from typing import Any

import pytest

import pyhac
from examples.datastructs import STRUCTURES, Heap, Keys, OrderedKeys, Queue, Structure

MOST = 500
"""Keys that a structure is kept below."""


class Modelled:
    """A structure and its model, to which the same things are done."""

    def __init__(self, name: str, ctx: pyhac.Context, dice: random.Random) -> None:
        self.structure: Any = STRUCTURES[name](ctx, name)
        self.dice = dice
        self.model: Any
        match self.structure:
            case Keys():
                self.model = set[int]()
            case Queue():
                self.model = deque[int]()
            case _:
                self.model = list[int]()

    def adopt(self, structure: Structure) -> None:
        """Go on with another view of what should be the same."""
        self.structure = structure
        self.same()

    def same(self) -> None:
        """The structure is sound and holds what the model holds."""
        self.structure.check()
        keys = list(self.structure)
        assert len(self.structure) == len(self.model) == len(keys)
        match self.structure:
            case OrderedKeys():
                assert keys == sorted(self.model)
            case Keys() | Heap():
                assert sorted(keys) == sorted(self.model)
            case _:
                assert keys == list(self.model)

    def step(self, model: Any | None = None) -> None:
        """One operation at random, in the structure and in the model (or another one)."""
        model = self.model if model is None else model
        keys = self.dice.choice((60, 10**6)) if self.dice.random() < 0.9 else 2**31
        key = self.dice.randrange(-keys, keys)
        if model and self.dice.random() < 0.3:
            key = self._known(model)
        # The sizes wander up and down, to nothing now and then.
        what = self.dice.random() + (0.5 - len(model) / MOST) * 0.3
        match self.structure:
            case Keys():
                self._step_of_keys(model, key, what)
            case Heap() | Queue():
                self._step_of_queue(model, key, what)
            case _:
                self._step_of_list(model, key, what)
        assert len(self.structure) == len(model)

    def _known(self, model: Any) -> int:
        """Some key of the model; not quite at random, which would take long in a set."""
        return int(next(iter(model)) if self.dice.random() < 0.5 else max(model))

    def _step_of_keys(self, model: set[int], key: int, what: float) -> None:
        if what > 0.55:
            assert self.structure.insert(key) is (key not in model)
            model.add(key)
        elif what > 0.15:
            assert self.structure.delete(key) is (key in model)
            model.discard(key)
        else:
            assert self.structure.find(key) is (key in model)

    def _step_of_list(self, model: list[int], key: int, what: float) -> None:
        if what > 0.5:
            self.structure.insert(key)
            model.append(key)
        elif what > 0.15:
            assert self.structure.delete(key) is (key in model)
            if key in model:
                model.remove(key)
        else:
            assert self.structure.find(key) is (key in model)

    def _step_of_queue(self, model: Any, key: int, what: float) -> None:
        heap = isinstance(self.structure, Heap)
        if what > 0.5:
            self.structure.insert(key)
            heapq.heappush(model, key) if heap else model.append(key)
        elif not model:
            with pytest.raises(IndexError, match="is empty"):
                self.structure.find()
        elif what > 0.15:
            assert self.structure.delete() == (heapq.heappop(model) if heap else model.popleft())
        else:
            assert self.structure.find() == model[0]
