"""A chat template that never ends, or fills the memory, is refused; any other renders as transformers renders it."""

from __future__ import annotations

import threading

import pytest
from jinja2.sandbox import SecurityError
from transformers.utils.chat_template_utils import render_jinja_template

from pangu_rl.data.chat import bounded
from pangu_rl.data.chat.bounded import BoundedTemplate

MESSAGES = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}]

AGAIN = "{{% set n = namespace(s={0}) %}}{{% for i in range(60) %}}{{% set n.s = n.s {1} n.s %}}{{% endfor %}}"
HOSTILE = {
    "a text that doubles": AGAIN.format("'a'", "~"),
    "a sum that doubles": AGAIN.format("'a'", "+"),
    "a list that doubles": AGAIN.format("[1]", "+"),
    "a number that squares": AGAIN.format("9", "*"),
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "loops over text": "{% set s = 'a' * 9999 %}{% for a in s %}{% for b in s %}{% endfor %}{% endfor %}",
    "a macro that calls itself twice": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
    "{{ f(60) }}",
    "a loop of loops": "{% for a in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "a constant": "{{ 'a' * 10 ** 10 }}",
    "a list": "{{ [1] * 9999999999 }}",
    "a power": "{{ 9 ** (9 ** 9) }}",
    "a width": "{{ 'a'.ljust(9999999999) }}",
    "a filter's width": "{{ 'a' | center(9999999999) }}",
    "a filter's named width": "{{ 'a' | indent(width=9999999999) }}",
    "a format": "{{ '%9999999999d' % 1 }}",
    "a format by a method": "{{ '{:9999999999}'.format(1) }}",
    "a format by a filter": "{{ '%9999999999d' | format(1) }}",
    "placeholder text": "{{ lipsum(n=9999999999) }}",
    "replacing": "{% set s = 'a' * 9999999 %}{{ s.replace('a', s) }}",
    "replacing by a filter": "{% set s = 'a' * 9999999 %}{{ s | replace('a', s) }}",
    "joining": "{% set s = 'a' * 9999999 %}{{ ''.join([s] * 9999) }}",
    "joining by a filter": "{% set s = 'a' * 9999999 %}{{ ([s] * 9999) | join }}",
    "the text itself": "{% set s = 'a' * 999999 %}{% for i in range(999) %}{{ s }}{% endfor %}",
}


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_template_that_goes_too_far_is_refused(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.setattr(bounded, "STEPS", 20_000)
    with pytest.raises((SecurityError, RecursionError)):
        BoundedTemplate(source).render(messages=MESSAGES)


HONEST = {
    "chat": "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "tools and json": "{% if tools %}{% for t in tools %}{{ t | tojson(indent=2) }}{% endfor %}{% endif %}",
    "loops with all that loops know": "{% for m in messages %}{{ loop.index }} of {{ loop.length }}{{ loop.revindex0 }}"
    "{% if not loop.last %}, {{ loop.nextitem.role }}{% endif %}{{ loop.changed(m.role) }}{{ loop.cycle('a', 'b') }}"
    "{% else %}none{% endfor %}",
    "a loop that is filtered, and left": "{% for m in messages if m.role == 'user' %}{{ m.content }}{% break %}"
    "{% endfor %}",
    "no loop": "{% for m in absent %}{{ m }}{% else %}nothing{% endfor %}",
    "a loop over pairs": "{% for key, value in messages[0].items() %}{{ key ~ '=' ~ value }}{% endfor %}",
    "macros and namespaces": "{% macro f(m, n=1) %}{{ m.role ~ n }}{% endmacro %}{% set ns = namespace(k=0) %}"
    "{% for m in messages %}{% set ns.k = ns.k + 1 %}{{ f(m, n=ns.k) }}{% endfor %}",
    "slices and filters": "{% for m in messages[::-1] %}{{ m.content | upper | replace('1', 'I') }}{% endfor %}"
    "{{ messages | map(attribute='role') | join(', ') }}"
    "{{ messages | selectattr('role', 'equalto', 'user') | list }}",
    "text": "{{ '%s and %02d' % ('a', 3) }}{{ '{:>4}'.format('b') }}{{ 'a b'.split(' ')[-1] }}"
    "{{ 'ab' * 3 }}{{ 2 ** 8 }}",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "a tree": "{% for m in [[1, [2]], [3]] recursive %}{% if m is iterable %}({{ loop(m) }})"
    "{% else %}{{ m }}{% endif %}{% endfor %}",
}


@pytest.mark.parametrize("prompt", [False, True])
@pytest.mark.parametrize("source", HONEST.values(), ids=HONEST.keys())
def test_any_other_renders_as_transformers_renders_it(source: str, prompt: bool) -> None:
    given = {"tools": [{"name": "f", "x": [1, "é<"]}], "documents": None, "add_generation_prompt": prompt}
    [expected], _ = render_jinja_template([MESSAGES], chat_template=source, bos_token="<s>", **given)
    assert BoundedTemplate(source).render(messages=MESSAGES, bos_token="<s>", **given) == expected


def test_steps_are_counted_anew_for_every_rendering_and_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "STEPS", 150)
    template = BoundedTemplate("{% for i in range(100) %}{% endfor %}done")
    failed: list[Exception] = []

    def render() -> None:
        try:
            assert [template.render() for _ in range(20)] == ["done"] * 20
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=render) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
