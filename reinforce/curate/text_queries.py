"""Class names as queries: the strategy "text" of section B.5.

Q = classes, S = sentences, E = dimensions of the joint space
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reinforce.curate.embeddings import Vectors
from reinforce.errors import MissingExtraError, ModelError, UsageError
from reinforce.teacher import default_threads
from reinforce.text_teacher import TextTeacher

PLACE = "{}"
"""Where a template takes the class name."""


def text_queries(model: str, class_names: Sequence[str], *, device: str, dtype: str = "float32", batch_size: int = 64,
                 templates: Sequence[str] | None = None) -> tuple[tuple[str, ...], Vectors]:  # fmt: skip
    """(Q,) class names as the queries' keys, and (Q, E) vectors of unit length in the space of the model's images.

    A class is one query: the normalised mean of its sentences' unit vectors, which is the zero-shot classifier of
    Radford et al. (2021, section 3.1.4: an ensemble over the embedding space). The paper encodes "text descriptions"
    and leaves open whether each of them is a query. Templates differ in how a picture is taken, not in what it shows,
    so their mean is the better description of a class; and a query a class keeps k, and with it the share of every
    class, independent of the number of templates.

    `model` is an open_clip pair, as `load_text_tower` takes it; `templates` are sentences that hold {} once (default:
    the 80 of Radford et al.), into which class names go with spaces for underscores. Sentences longer than the model's
    context are cut. Raises UsageError for a model without a text tower and for names or templates that cannot be used,
    ModelError where the tower gives no direction, MissingExtraError without open_clip.
    """
    phrases, templates = _phrases(class_names), _checked(published_templates() if templates is None else templates)
    sentences = [template.replace(PLACE, phrase) for phrase in phrases for template in templates]
    teacher = TextTeacher(model, device=device, dtype=dtype, threads=default_threads(), batch_size=batch_size)
    means_QE = _mean_directions(teacher, sentences, len(phrases))
    lengths_Q = np.linalg.norm(means_QE, axis=1)
    for name, length in zip(class_names, lengths_Q, strict=True):
        if not 0 < length < np.inf:
            raise ModelError(f"the text tower of {model} gives no direction for class '{name}': type --dtype float32, "
                             "or import the pair again")  # fmt: skip
    return tuple(class_names), (means_QE / lengths_Q[:, None]).astype(np.float16)


def published_templates(name: str = "openai") -> tuple[str, ...]:
    """Those of Radford et al. (2021) for ImageNet, from open_clip: "openai" are all 80, "simple" are 7 chosen of them.

    Raises MissingExtraError without open_clip.
    """
    try:
        import open_clip
    except ImportError as error:
        raise MissingExtraError("open_clip_torch", "clip", "a list of templates") from error
    lists = {"openai": open_clip.OPENAI_IMAGENET_TEMPLATES, "simple": open_clip.SIMPLE_IMAGENET_TEMPLATES}
    return tuple(template(PLACE) for template in lists[name])


def _mean_directions(teacher: TextTeacher, sentences: Sequence[str], num_classes: int) -> NDArray[np.float64]:
    """(num_classes, E) means of unit vectors; a class's sentences are neighbours, and all have as many."""
    per_class = len(sentences) // num_classes
    means_QE = np.zeros((num_classes, teacher.text.config.embed_dim))
    for start in range(0, len(sentences), teacher.batch_size):
        batch = sentences[start : start + teacher.batch_size]
        features_SE = teacher.targets(teacher.tokenizer(batch).numpy()).astype(np.float64)
        lengths_S = np.linalg.norm(features_SE, axis=1)
        classes_S = np.arange(start, start + len(batch)) // per_class
        with np.errstate(invalid="ignore"):  # what has no direction is found, with its class's name, in the mean
            np.add.at(means_QE, classes_S, features_SE / lengths_S[:, None] / per_class)
    return means_QE


def _phrases(class_names: Sequence[str]) -> list[str]:
    """Class names as they stand in a sentence. Raises UsageError for none, for an empty one, and for equal ones.

    Small and capital letters are the same to CLIP's tokenizer.
    """
    if not class_names:
        raise UsageError("text queries need class names: type a labelled dataset as --query")
    phrases = [" ".join(name.replace("_", " ").encode("utf-8", "replace").decode().split()) for name in class_names]
    if "" in phrases:
        raise UsageError(f"class name '{class_names[phrases.index('')]}' has no letters to make a sentence of: "
                         "rename the class")  # fmt: skip
    twice = [phrase for phrase, count in Counter(map(str.lower, phrases)).items() if count > 1]
    if twice:
        raise UsageError(f"two classes read '{twice[0]}', which gives the same query twice: rename one")
    return phrases


def _checked(templates: Sequence[str]) -> Sequence[str]:
    """Raises UsageError for none, and for one that does not hold {} exactly once."""
    if not templates:
        raise UsageError(f"there are no templates: write one a line, such as 'a photo of a {PLACE}.'")
    for template in templates:
        if template.count(PLACE) != 1:
            raise UsageError(f"template '{template}' holds {PLACE} {template.count(PLACE)} times, not once: "
                             f"write it as 'a photo of a {PLACE}.'")  # fmt: skip
    return templates
