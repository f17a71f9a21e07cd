"""Scores of networks on pictures, with the paper's protocol (Sec. 4.2, Sec. 4.3)."""

from esc_sr.evaluate.scores import Protocol, Scores, evaluate, predict, score

__all__ = ["Protocol", "Scores", "evaluate", "predict", "score"]
