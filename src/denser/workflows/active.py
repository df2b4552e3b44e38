"""Active learning: label the structures of a pool that a model knows least, and train on them.

In each round the model of the round before predicts what is left of the pool. The structures to
label are taken one after the other; the next one has the largest product of its expected error and
its distance from the closest one that is labelled (the distance alone is the k-centre rule of Sener
and Savarese, International Conference on Learning Representations, 2018). The distance is that of
the mean features of the atoms, each divided by its standard deviation over the pool. Then the first
model is fine-tuned on all labels so far. A random part of the pool, which is labelled first and
never trained on, measures every round.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from denser.atoms.sad import count_electrons
from denser.io.files import make_folder
from denser.io.names import read_names, write_names
from denser.labels.identity import content_hash
from denser.labels.reading import names_of_labels
from denser.model.checkpoint import Model, load_model
from denser.model.predictor import Predictor
from denser.training.folder import write_json
from denser.training.loop import Progress
from denser.types.errors import InputError
from denser.workflows.finetune import FineTuned, Plan, finetune
from denser.workflows.label.inputs import LabelInput
from denser.workflows.many import Failed, attempt

Training = tuple[Callable[[Progress], None] | None, Callable[[], bool] | None]

CHOICES = ("error", "random")
"""How the structures to label are chosen."""

FEWEST_TEST = 10
"""Structures of the pool that at least measure the rounds, by default."""

MOST_TEST = 40

STORE, RECORD = "labels.db", "rounds.json"


@dataclass(frozen=True)
class ActivePlan:
    """What to label and to train.

    Parameters
    ----------
    model : str
        Shipped model or model file to start from.
    budget : int
        Number of structures of the pool to label, without the test part.
    rounds : int
        The budget is spent in so many equal parts.
    test : int, optional
        Size of the test part; by default a tenth of the pool, 10 to 40.
    choice : str
        One of `CHOICES`.
    rehearse : str, optional
        Labels of the original kind to mix in.
    steps : int, optional
        Of each fine tuning, as in `denser.workflows.finetune.Plan`.
    seed : int
    """

    model: str = "default"
    budget: int = 100
    rounds: int = 4
    test: int | None = None
    choice: str = "error"
    rehearse: str | None = None
    steps: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.choice not in CHOICES:
            raise InputError(f"--choose {self.choice}: known are {', '.join(CHOICES)}")
        if self.budget < self.rounds:
            raise InputError(
                f"a budget of {self.budget} label{'' if self.budget == 1 else 's'} is not enough "
                f"for {self.rounds} rounds; lower --rounds"
            )


@dataclass(frozen=True)
class Round:
    """What a round did: names of the chosen structures and of its labels, and errors in percent.

    The errors are those of the model before all rounds and of that of this round on the test part.
    """

    round: int
    chosen: tuple[str, ...]
    n_train: int
    test_before_percent: float
    test_after_percent: float
    test_worst_percent: float
    model: str


def active(
    plan: ActivePlan,
    pool: Sequence[LabelInput],
    out: Path,
    label: Callable[[list[LabelInput], Path], bool],
    tell: Callable[[str], None] = lambda _: None,
    looking: Callable[[int], AbstractContextManager[Callable[[], None]]] = lambda _: nullcontext(
        lambda: None
    ),
    training: Callable[[Path], AbstractContextManager[Training]] = lambda _: nullcontext(
        (None, None)
    ),
) -> list[Round]:
    """Run all rounds; the same call continues an interrupted run.

    Parameters
    ----------
    plan : ActivePlan
    pool : sequence of LabelInput
        Structures with different names.
    out : Path
        Folder: `labels.db` (store), `rounds.json`, `test.txt`, and a folder of `finetune` for each
        round.
    label : callable
        Labels structures into a store, those that are not in it yet; False if it was interrupted.
    tell : callable
        Called with sentences about the progress.
    looking : callable
        Called with the number of structures that a round predicts; returns a context that gives a
        callable, which is called after each of them.
    training : callable
        Called with the folder of a fine tuning; returns a context that gives `report` and `stop` of
        `denser.training.loop.train`.

    Raises
    ------
    InputError
        The pool is too small, the folder is that of another run, the model has no expected errors,
        no structure could be labelled; and the errors of `finetune`.
    KeyboardInterrupt
        Labelling was interrupted.
    """
    model = load_model(plan.model)
    if plan.choice == "error" and model.network.expected_error is None:
        raise InputError(
            f"model {plan.model!r} does not state expected errors; fit them with `denser models "
            "expect-errors`, or give --choose random"
        )
    known = {entry.name: entry for entry in pool}
    if len(known) < len(pool):
        raise InputError("two structures of the pool have the same name; rename a file")
    n_test = plan.test or min(MOST_TEST, max(FEWEST_TEST, len(pool) // 10))
    if n_test + plan.budget > len(pool):
        raise InputError(
            f"the pool has {len(pool)} structures, fewer than the {n_test} of the test part and "
            f"the {plan.budget} of the budget; lower --test or --budget"
        )
    _begin(plan, model, pool, n_test, out)
    random = np.random.default_rng(plan.seed)
    order = [pool[i].name for i in random.permutation(len(pool))]
    test = sorted(order[:n_test])
    write_names(out / "test.txt", _labelled([known[name] for name in test], out, label, "test"))
    rounds = _read_rounds(out)
    taken = [name for found in rounds for name in found.chosen]
    sizes = [len(part) for part in np.array_split(np.arange(plan.budget), plan.rounds)]
    for i in range(len(rounds), plan.rounds):
        left = [known[name] for name in order[n_test:] if name not in set(taken)]
        folder = out / f"round-{i + 1}"
        with looking(len(left) + len(taken)) as looked:
            names = _chosen(
                plan, rounds, left, [known[n] for n in taken], sizes[i], folder, tell, looked
            )
        tell(f"round {i + 1} of {plan.rounds}: {len(names)} structures to label")
        _labelled([known[name] for name in names], out, label, f"round {i + 1}")
        taken += names
        tuning = Plan(
            plan.model,
            (str(out / STORE),),
            test=str(out / "test.txt"),
            steps=plan.steps,
            rehearse=plan.rehearse,
            seed=plan.seed,
        )
        with training(folder / "tuned") as (report, stop):
            result = finetune(tuning, folder / "tuned", report, stop, tell)
        rounds.append(_record(i + 1, names, result))
        write_json(out / RECORD, {"rounds": [asdict(found) for found in rounds]})
    return rounds


def spread_out(
    errors: np.ndarray, features: np.ndarray, taken: np.ndarray, number: int
) -> list[int]:
    """Indices of structures with large errors, far from each other and from those taken.

    Parameters
    ----------
    errors : (n,) float
        Expected errors.
    features : (n, k) float
        Of the structures to choose from.
    taken : (m, k) float
        Of those that are labelled; m may be 0.
    number : int
        How many; all if there are not so many.
    """
    scale = features.std(axis=0) + 1e-9
    features, taken = features / scale, taken / scale
    apart = np.full(len(errors), np.inf)
    for other in taken:
        apart = np.minimum(apart, np.linalg.norm(features - other, axis=1))
    chosen: list[int] = []
    free = np.ones(len(errors), dtype=bool)
    while free.any() and len(chosen) < number:
        weights = errors if np.isinf(apart).all() else errors * apart
        best = int(np.argmax(np.where(free, weights, -1.0)))
        chosen.append(best)
        free[best] = False
        apart = np.minimum(apart, np.linalg.norm(features - features[best], axis=1))
    return chosen


def _chosen(
    plan: ActivePlan,
    rounds: list[Round],
    left: list[LabelInput],
    taken: list[LabelInput],
    number: int,
    folder: Path,
    tell: Callable[[str], None],
    looked: Callable[[], None],
) -> list[str]:
    """Names of the structures that a round labels; they are kept in a file of its folder."""
    kept = folder / "chosen.txt"
    if kept.exists():
        return list(read_names(kept))
    if plan.choice == "random":
        names = [entry.name for entry in left[:number]]
    else:
        model = load_model(rounds[-1].model if rounds else plan.model)
        predictor = Predictor(model)
        known: dict[str, tuple[float, np.ndarray]] = {}
        for entry in (*left, *taken):
            found = attempt(_look, predictor, entry)
            if isinstance(found, Failed):
                tell(f"{entry.name} is left out of this round: {found.error}")
            else:
                known[entry.name] = found
            looked()
        usable = [entry.name for entry in left if entry.name in known]
        if not usable:
            raise InputError("the model can predict no structure of the pool")
        errors = np.array([known[name][0] for name in usable])
        features = np.array([known[name][1] for name in usable])
        before = [known[entry.name][1] for entry in taken if entry.name in known]
        apart = np.array(before).reshape(-1, features.shape[1])
        names = [usable[i] for i in spread_out(errors, features, apart, number)]
        tell(
            f"expected errors of the {len(usable)} structures left: {100 * errors.mean():.2f} % in "
            f"the mean, {100 * errors.max():.2f} % at worst ({usable[int(errors.argmax())]})"
        )
    make_folder(folder)
    write_names(kept, names)
    return names


def _look(predictor: Predictor, entry: LabelInput) -> tuple[float, np.ndarray]:
    """Expected error and mean features of a structure."""
    atoms, excess = predictor.gaussians(entry.structure)
    wrong = predictor.wrong_electrons(atoms, excess)
    assert wrong is not None and atoms.environments is not None
    error = float(wrong.sum() / count_electrons(entry.structure))
    return error, atoms.environments.mean(dim=0).cpu().numpy().astype(float)


def _labelled(
    entries: list[LabelInput],
    out: Path,
    label: Callable[[list[LabelInput], Path], bool],
    part: str,
) -> list[str]:
    """Label structures; return the names of those that have a label."""
    if not label(entries, out / STORE):
        raise KeyboardInterrupt
    there = set(names_of_labels(out / STORE))
    found = [entry.name for entry in entries if entry.name in there]
    if not found:
        raise InputError(f"none of the {len(entries)} structures of the {part} could be labelled")
    return found


def _begin(
    plan: ActivePlan, model: Model, pool: Sequence[LabelInput], n_test: int, out: Path
) -> None:
    """Make the folder, or see that it belongs to the same run; more rounds are another run."""
    same = {
        **asdict(plan),
        "test": n_test,
        "model": model.weights_hash(),
        "pool": sorted(f"{x.name} {content_hash(x.structure, x.box)}" for x in pool),
    }
    path = out / "plan.json"
    if path.exists():
        earlier = json.loads(path.read_text())
        changed = [key for key, value in same.items() if earlier.get(key) != value]
        if changed:
            raise InputError(
                f"{out} has a run with another {' and '.join(changed)}; give another folder"
            )
        return
    make_folder(out)
    write_json(path, same)


def _read_rounds(out: Path) -> list[Round]:
    path = out / RECORD
    if not path.exists():
        return []
    found = json.loads(path.read_text())["rounds"]
    return [Round(**{**entry, "chosen": tuple(entry["chosen"])}) for entry in found]


def _record(number: int, names: list[str], result: FineTuned) -> Round:
    test = result.test
    if test is None:
        raise InputError("no label of the test part could be measured")
    return Round(
        number,
        tuple(names),
        result.n_train + result.n_validation,
        100 * float(test.before.mean()),
        100 * float(test.after.mean()),
        100 * float(test.after.max()),
        str(result.path),
    )


def table(rounds: list[Round]) -> Table:
    """Err_rho of the test part after each round."""
    out = Table("round", "labels", "mean", "worst", title="Err_rho of the test part, percent")
    if rounds:
        out.add_row("before", "0", f"{rounds[0].test_before_percent:.3f}", "")
    for found in rounds:
        out.add_row(
            str(found.round),
            str(found.n_train),
            f"{found.test_after_percent:.3f}",
            f"{found.test_worst_percent:.3f}",
        )
    return out
