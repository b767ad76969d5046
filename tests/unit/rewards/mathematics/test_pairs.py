"""Answers beside golds in the spellings that models use: what is right stays right, what is wrong stays wrong.

Algebra runs in this process: the guard makes these rows safe.
"""

from __future__ import annotations

import pytest

from pangu_rl.records import Outcome
from rewards.rules.dispatch import grade_by_algebra
from rewards.rules.gold import Gold

RIGHT, WRONG = True, False

PAIRS = {
    "rows of arrays": [
        (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", RIGHT),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "\\begin{pmatrix}\n1 & 2 \\\\\n3 & 4\n\\end{pmatrix}", RIGHT),
        (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{bmatrix} 1 & 2 \\[2pt] 3 & 4 \end{bmatrix}", RIGHT),
        (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{pmatrix} 1 & 2 \\\ 3 & 4 \end{pmatrix}", RIGHT),
        (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"[[1,2],[3,4]]", RIGHT),
        (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{pmatrix} 1 & 2 \\ 4 & 3 \end{pmatrix}", WRONG),
        (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{pmatrix} 1 & 3 \\ 2 & 4 \end{pmatrix}", WRONG),
        (r"(-7,16,5)", r"\begin{pmatrix} -7 \\ 16 \\ 5 \end{pmatrix}", RIGHT),
        (r"(-7,16,5)", r"\begin{pmatrix} -7 \\ 5 \\ 16 \end{pmatrix}", WRONG),
        (r"(1,2)", r"\begin{pmatrix} 12 \end{pmatrix}", WRONG),
        (r"x=3, y=-1", r"\begin{cases} x=3 \\ y=-1 \end{cases}", RIGHT),
        (r"\begin{cases} x=3 \\ y=-1 \end{cases}", r"\left\{\begin{array}{l} x=3 \\ y=-1 \end{array}\right.", RIGHT),
        (r"\begin{cases}x=3,\\y=-1\end{cases}", r"(3,-1)", RIGHT),
        (r"\begin{cases}x=3\\y=-1\end{cases}", r"\begin{cases}x&=3\\y&=-1\end{cases}", RIGHT),
        (r"\begin{cases}x=3\\y=-1\end{cases}", r"\begin{cases} x=-1 \\ y=3 \end{cases}", WRONG),
        (r"\begin{cases}x=3\\y=-1\end{cases}", r"(-1,3)", WRONG),
        (r"\begin{cases}x=3\\y=-1\end{cases}", r"x=3", WRONG),
        (r"\begin{cases}1, & x=1 \\ 2, & x=2\end{cases}", r"\begin{cases}2, & x=1 \\ 1, & x=2\end{cases}", WRONG),
    ],
    "powers of ten": [
        ("1.6×10⁻¹⁹", "1.6×10⁻¹⁹", RIGHT),
        ("1.6×10⁻¹⁹", r"1.6\times{10}^{-19}", RIGHT),
        ("12300", r"1.23\times{10}^{4}", RIGHT),
        ("12300", r"1.23\times{10}^{3}", WRONG),
        ("12301", r"1.23\times{10}^{4}+1", WRONG),
        ("11", r"8\mathbf{+}3", WRONG),
    ],
    "degrees in braces": [
        (r"\frac{360}{7}", r"\frac{360^\circ}{7}", RIGHT),
        (r"\frac{360^{\circ}}{7}", r"\frac{360}{7}^\circ", RIGHT),
        (r"\frac{180^\circ}{7}", r"\left(\frac{180}{7}\right)^\circ", RIGHT),
        (r"\frac{180^\circ}{7}", r"\frac{\pi}{7}", RIGHT),
        (r"\frac{180^\circ}{7}", r"\frac{180}{7}\pi", WRONG),
        (r"\frac{180^\circ}{7}", r"\frac{360^\circ}{7}", WRONG),
        ("1", r"\sqrt{2}\sin{45^\circ}", RIGHT),
        ("2", r"\sqrt{2}\sin{45^\circ}", WRONG),
        (r"60^\circ", r"{60^\circ}", RIGHT),
        (r"60^\circ", r"{30^\circ}", WRONG),
        ("30°或150°", r"30^\circ \text{ or } 150^\circ", RIGHT),
        ("30°或150°", r"30^\circ", WRONG),
        ("25℃", r"25^{\circ} \mathrm{C}", RIGHT),
        ("25℃", r"25^{\circ} \mathrm{F}", WRONG),
        (r"45^\circ 30'", r"45.5^\circ", RIGHT),
        (r"45^\circ 30'", r"45.3^\circ", WRONG),
    ],
    "short forms": [
        (r"\frac{\pi}{3}", r"\frac\pi3", RIGHT),
        (r"\frac{\pi}{3}", r"\frac\pi4", WRONG),
        (r"\frac{1}{\pi}", r"\frac1\pi", RIGHT),
        (r"\frac{1}{\sqrt2}", r"\frac1\sqrt2", RIGHT),
        (r"\sqrt{\frac{1}{2}}", r"\sqrt\frac12", RIGHT),
        (r"\sqrt{\frac{1}{2}}", r"\frac12", WRONG),
        (r"\log_2 3", r"\log_23", RIGHT),
        (r"\log_2 3", r"\log_32", WRONG),
        (r"\log_2 10", r"\log_210", RIGHT),
        (r"\log_2 10", r"\log_21", WRONG),
        (r"\log_{10} 2", r"\log_10 2", RIGHT),
        ("2^{n+1}", "2^(n+1)", RIGHT),
        ("2^{n+1}", "2^(n)+1", WRONG),
        ("e^{-2}", "e^(-2)", RIGHT),
        (r"\sqrt{3}", "3^(1/2)", RIGHT),
        (r"\sqrt{3}", "3^(1/3)", WRONG),
        ("8", "2^(3)", RIGHT),
        ("9", "2^(3)", WRONG),
        ("10", r"\binom52", RIGHT),
        ("10", r"\binom51", WRONG),
    ],
    "the letter gamma and letters of two shapes": [
        (r"\frac{2}{\gamma+1}", "2", WRONG),
        (r"\frac{\gamma}{\gamma-1}", r"\frac{1}{1-1/\gamma}", RIGHT),
        (r"\gamma", "0.5772156649", WRONG),
        (r"\gamma", r"\Gamma", WRONG),
        (r"(\gamma-1)mc^2", r"mc^2\gamma-mc^2", RIGHT),
        (r"(\gamma-1)mc^2", "-mc^2", WRONG),
        (r"\gamma(x+1)", r"\gamma x+\gamma", RIGHT),
        (r"\gamma mv", "0", WRONG),
        (r"\gamma_1+1", "1", WRONG),
        ("2", r"\Gamma(3)", RIGHT),
        ("3", r"\Gamma(3)", WRONG),
        (r"\Gamma+1", r"1+\Gamma", RIGHT),
        (r"\frac{q}{4\pi\varepsilon_0r^2}", r"\frac{q}{4\pi\epsilon_0r^2}", RIGHT),
        (r"\frac{q}{4\pi\varepsilon_0r^2}", r"\frac{q}{4\pi\epsilon_1r^2}", WRONG),
        (r"\pi-\varphi", r"\pi-\phi", RIGHT),
        (r"\pi-\varphi", r"\pi-\psi", WRONG),
        (r"\vartheta+1", r"\theta+1", RIGHT),
    ],
    "arguments of functions without brackets": [
        (r"\ln 2/2", "0", WRONG),
        (r"\frac{\ln 2}{2}", r"\ln 2/2", RIGHT),
        (r"\frac{\ln 2}{\lambda}", r"\ln2/\lambda", RIGHT),
        (r"\ln\frac32", r"\ln 3/2", WRONG),
        (r"x\ln x", r"\ln x\cdot x", RIGHT),
        (r"\sin x\cos x", r"\sin x\cdot\cos x", RIGHT),
        (r"\sin x\cos x", r"\sin x+\cos x", WRONG),
        (r"e^{-x}\cos x", r"\cos x\cdot e^{-x}", RIGHT),
        (r"\cos x\cdot e^{-x}", r"\cos(x e^{-x})", WRONG),
        (r"\frac{\tan\theta}{2}", r"\tan\theta/2", RIGHT),
        (r"\tan\frac{\theta}{2}", r"\tan(\theta/2)", RIGHT),
        (r"\frac{\sqrt3}{2}", r"\sin 2\pi/3", RIGHT),
        (r"\frac{\sqrt3}{2}", r"\sin\pi/6", WRONG),
        (r"\frac{\sin 60^\circ}{2}", r"\sin 60^\circ/2", RIGHT),
        (r"\ln|x-1|+C", r"C+\ln|x-1|", RIGHT),
        (r"\ln|x-1|+C", r"\ln|x|-1+C", WRONG),
        (r"2\log_2 3", r"\log_2 3\cdot 2", RIGHT),
        (r"\log_2 6", r"\log_2 3\cdot 2", WRONG),
        (r"|\sin x|-1", r"-1+|\sin x|", RIGHT),
        (r"\sin 2x", r"2\sin x\cos x", RIGHT),
        (r"\sin^2x", r"1-\cos^2x", RIGHT),
        (r"\ln\ln x", r"\ln(\ln x)", RIGHT),
    ],
    "differences of letters": [
        ("F-mg", "Fmg", WRONG),
        ("F-mg", "-mg+F", RIGHT),
        ("mg-kv", "mgkv", WRONG),
        ("a-b-c", "a-(b+c)", RIGHT),
        ("a-b-c", "abc", WRONG),
        ("a-b-c", "a,b,c", WRONG),
        ("y=k(x-1)", "y=kx-k", RIGHT),
        ("y=k(x-1)", "y=kx+k", WRONG),
        ("U=E-Ir", "U=-Ir+E", RIGHT),
        ("U=E-Ir", "U=EIr", WRONG),
        ("x-y", "y-x", WRONG),
        ("x-y", "-y+x", RIGHT),
        ("mn-n", "n(m-1)", RIGHT),
        ("A>B>C", "A>B>C", RIGHT),
        ("A>B>C", "C>B>A", WRONG),
        (r"A \rightarrow B \rightarrow C", "A-B-C", RIGHT),
        (r"A \rightarrow B \rightarrow C", "A-C-B", WRONG),
        ("A-B-C", "A-C-B", WRONG),
        ("b,d,a,c", "b d a c", RIGHT),
        ("b,d,a,c", "b-d-a-c", RIGHT),
        ("abc", "a-b-c", WRONG),
        ("b,d,a,c", "d-b-a-c", WRONG),
        ("b,d,a,c", "b,a,d,c", WRONG),
    ],
}
"""Gold, answer, verdict."""


@pytest.mark.parametrize("kind", PAIRS)
def test_pairs(kind: str) -> None:
    assert [pair for pair in PAIRS[kind] if _credited(*pair[:2]) is not pair[2]] == []


def _credited(gold: str, answer: str) -> bool:
    return grade_by_algebra(answer, Gold(gold, "math")).outcome is Outcome.CORRECT
