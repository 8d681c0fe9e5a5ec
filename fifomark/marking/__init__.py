"""Judge 3: rubric, data, metrics, evaluation, grade. torch is loaded by `evaluation` and what it uses; `rubric` and `grade` need none."""
