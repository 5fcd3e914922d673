"""``soupmerge front``: a soup for every trade-off between objectives, from one run."""

from __future__ import annotations

import click

import soupmerge as sm
from soupmerge.cli import results, show
from soupmerge.cli.learners import LearnOptions, Task, learn_options
from soupmerge.cli.options.front import FrontOptions, PointEvaluation, front, point_evaluation
from soupmerge.cli.options.option_groups import Command
from soupmerge.soups.learn.settings import FRONT_STEPS


@click.command(cls=Command)
@front
@point_evaluation
@learn_options(f"as many as take about {FRONT_STEPS} steps")
def command(front: FrontOptions, point_evaluation: PointEvaluation, options: LearnOptions) -> None:
    """Learn a soup for every trade-off between objectives, in one run, and judge some.

    RUN/front.json holds all of them: soupmerge mix --recipe RUN/front.json --at 0.6 writes the soup
    at which the second of two objectives counts 0.6 and the first 0.4. With --judge-split, evenly
    spaced points are judged.
    """
    losses = front.losses()
    task = options.task()
    settings = front.added_to(task.settings)
    task.print_plan([loss.name for loss in losses], objectives=len(losses))
    task.data.warn_of_test("teaches the front")
    benchmark = point_evaluation.benchmark(task.data, front.threats, options.machine)
    compared = point_evaluation.compared()
    if options.output.dry_run:
        _print_duration(task, losses, settings)
        return
    with show.Progress() as progress:
        learned = sm.front(
            task.net,
            task.ingredients,
            task.images,
            losses,
            settings=settings,
            augment=options.learning.augment(),
            benchmark=benchmark,
            points=point_evaluation.points,
            beside=compared,
            seed=options.machine.seed,
            run=task.run(progress),
        )
    results.print_front(learned, list(compared), options.output.out, as_json=options.as_json)


def _print_duration(task: Task, losses: list[sm.Adversarial], settings: sm.Settings) -> None:
    from soupmerge.soups.judge.estimate import duration
    from soupmerge.soups.learn.front import expected_seconds

    given = (task.net, task.ingredients, task.images, losses, settings)
    seconds = expected_seconds(*given, device=task.device)
    show.note(f"the steps take about {duration(seconds)} on {task.device}")
