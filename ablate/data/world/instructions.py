"""Wording of instructions: a form (short, long, persona, negated) around the phrases of one or two demands.

Train and evaluation use disjoint templates and disjoint phrases. The two sides of a constraint take the same template
and phrase number, so that a reversal changes what is asked for and as little else as possible.
"""

from __future__ import annotations

from typing import NamedTuple

from ablate.data.world.tables import FORM_TURNS, Constraint, shared


class Demand(NamedTuple):
    """A constraint with the side that is asked for."""

    constraint: Constraint
    usual: bool

    def holds(self, level: int) -> bool:
        """Return whether a document at this level satisfies the demand."""
        return self.constraint.holds[level] == self.usual

    def phrases(self, split: str, wanted: bool) -> tuple[str, ...]:
        """Return the phrases for what is demanded, or for its complement."""
        return (self.constraint.usual if self.usual == wanted else self.constraint.complement)[split]


class Wording(NamedTuple):
    """How an instruction is put: form, template and phrase numbers (taken modulo what there is)."""

    form: str
    template: int
    phrase: int


def write_instruction(noun: str, demands: tuple[Demand, ...], split: str, wording: Wording) -> str:
    """Word one instruction: all demands must hold; the negated form names what breaks any of them."""
    templates = shared().templates[split][wording.form]
    sides = []
    for wanted, joint in ((True, " and "), (False, " or ")):
        phrases = [demand.phrases(split, wanted) for demand in demands]
        sides.append(joint.join(options[wording.phrase % len(options)] for options in phrases))
    return templates[wording.template % len(templates)].format(n=noun, p=sides[0], q=sides[1])


def other_wording(wording: Wording, form: int, template: int) -> Wording:
    """Return a training wording with another template and another phrase; `form` and `template` are free draws."""
    chosen = FORM_TURNS[form % len(FORM_TURNS)]
    step = 1 if chosen == wording.form else 0
    count = len(shared().templates["train"][chosen])
    moved = (wording.template % count + step + template % (count - step)) % count
    return Wording(chosen, moved, wording.phrase + 1)


def broad_instruction(noun: str, label: str, template: int) -> str:
    """Word an instruction that every document of the topic satisfies."""
    templates = shared().broad
    return templates[template % len(templates)].format(n=noun, label=label)
