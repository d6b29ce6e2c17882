"""Pairs without a held-out part are divided by name: at least three are held out, and new files move few."""

import pytest

from model.errors import DataError
from pipelines.data.splits import MIN_VAL, choose_held_out, share_out
from tests.fixtures.pair_folders import index, names, side_by_side


@pytest.mark.parametrize("count", [4, 5, 12, 20, 30])
def test_three_pairs_are_held_out_of_few(tmp_path, count):
    found = index(side_by_side(tmp_path, (("", count),)))
    assert len(found.val) >= 3 and len(found.train) + len(found.val) == count and found.train


def test_the_share_decides_as_soon_as_it_holds_out_enough():
    many = [f"tile-{i}" for i in range(2000)]
    held_out = choose_held_out(many, 0.1)
    assert 150 < len(held_out) < 250
    assert held_out <= choose_held_out([*many, *(f"new-{i}" for i in range(2000))], 0.1)
    assert held_out < choose_held_out(many, 0.2)


def test_a_new_name_moves_at_most_one_other():
    names_so_far = []
    for i in range(300):
        before = choose_held_out(names_so_far, 0.05)
        names_so_far.append(f"photo {i}")
        after = choose_held_out(names_so_far, 0.05)
        # Only the one with the highest of the three lowest hashes makes room.
        assert len(before - after) <= 1 and after - before <= {f"photo {i}"}
        assert len(after) >= min(MIN_VAL, len(names_so_far))


def test_too_few_pairs_to_hold_some_out_are_an_error(tmp_path):
    with pytest.raises(DataError, match="has 3 usable pairs; at least 4 are needed, because 3 are held out"):
        index(side_by_side(tmp_path, (("train", 3),)))


def test_rejected_pairs_are_not_counted_among_those_held_out(tmp_path):
    side_by_side(tmp_path, (("", 20),))
    for name in names(index(tmp_path).val):
        (tmp_path / f"{name}.png").write_bytes(b"broken")
    assert len(index(tmp_path, min_good=0).val) == 3


def test_a_large_share_leaves_no_pair_to_train_on(tmp_path):
    with pytest.raises(DataError, match=r"no pair to train on: 4 are held out; decrease data.val_fraction \(0\.999\)"):
        index(side_by_side(tmp_path, (("", 4),)), val_fraction=0.999)


def test_checkpoints_are_scored_on_held_out_pairs_unless_something_is_chosen_by_them(tmp_path):
    pairs = index(side_by_side(tmp_path, (("train", 40), ("val", 5))))
    shares = share_out(pairs, most=3, chooses=False)
    assert (shares.all, shares.trained, shares.scored) == (pairs, pairs, pairs.val[:3])
    shares = share_out(pairs, most=32, chooses=True)
    assert len(shares.scored) == 4 and len(shares.trained.train) == 36
    assert sorted([*names(shares.trained.train), *names(shares.scored)]) == names(pairs.train)
    assert shares.trained.val == pairs.val and share_out(pairs, most=32, chooses=True) == shares
    assert len(share_out(pairs, most=3, chooses=True).scored) == 3
    assert len(share_out(pairs.model_copy(update={"train": pairs.train[:4]}), most=3, chooses=True).scored) == 1
