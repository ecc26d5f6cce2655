"""Model rules from InferenceModelRewrites and InferenceModels, in their order of precedence.

Rules for a named model come before rules for any model, then an InferenceModelRewrite before an
InferenceModel, then the older object, then the order of writing (source: llm-d-router
pkg/epp/datastore/modelrewritestore.go).
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from pointsman_common.inference_pool import ModelRule, ModelTarget
from pointsman_datalayer.core.manifest_kinds import (
    InferenceModelManifest,
    InferenceModelRewriteManifest,
    Metadata,
    RewriteRule,
)
from pointsman_datalayer.core.manifests import Found, ManifestError

CRITICALITY: Mapping[str, int] = {"Critical": 10, "Standard": 0, "Sheddable": -1}
"""Priority that an InferenceModel's criticality stands for."""


RankedRule = tuple[tuple[bool, int, datetime, int, int], ModelRule]
"""A rule with its sort key."""

_NEVER = datetime.min.replace(tzinfo=UTC)


def _created(metadata: Metadata) -> datetime:
    """An object without a timestamp counts as the oldest, as Go's zero time does."""
    at = metadata.creation_timestamp or _NEVER
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def ranked_rules(
    item: Found, what: InferenceModelRewriteManifest | InferenceModelManifest
) -> list[RankedRule]:
    """Rules with their sort key: named models first, a rewrite before an InferenceModel, age."""
    created, source = _created(what.metadata), f"{what.kind}/{what.metadata.name}"
    if isinstance(what, InferenceModelManifest):
        spec = what.spec
        weights = [target.weight for target in spec.target_models]
        _check_weights(item.place, "spec.targetModels", weights)
        targets = tuple(ModelTarget(to.name, to.weight or 0) for to in spec.target_models)
        rule = ModelRule(
            source,
            frozenset({spec.model_name}),
            targets or (ModelTarget(spec.model_name),),
            CRITICALITY[spec.criticality],
        )
        return [((False, 1, created, item.order, 0), rule)]
    return [
        (
            (not rule.matches, 0, created, item.order, index),
            _rewrite_rule(item.place, source, index, rule),
        )
        for index, rule in enumerate(what.spec.rules)
    ]


def _rewrite_rule(place: str, source: str, index: int, rule: RewriteRule) -> ModelRule:
    key = f"spec.rules[{index}].targets"
    _check_weights(place, key, [target.weight for target in rule.targets])
    return ModelRule(
        source,
        frozenset(match.model.value for match in rule.matches),
        tuple(ModelTarget(target.model_rewrite, target.weight or 0) for target in rule.targets),
    )


def _check_weights(place: str, key: str, weights: list[int | None]) -> None:
    if None in weights and any(weight is not None for weight in weights):
        raise ManifestError(place, key, "either all targets have a weight or none")


def in_precedence(
    ranked: list[RankedRule], pool: str, warnings: list[str]
) -> tuple[ModelRule, ...]:
    ordered = [rule for _, rule in sorted(ranked, key=lambda entry: entry[0])]
    rules: list[ModelRule] = []
    owners: dict[str, str] = {}
    for rule in ordered:
        if rule.priority is not None:
            (model,) = rule.models
            if model in owners:  # the CRD asks for one InferenceModel a name: the oldest wins
                warnings.append(f"{pool}: {rule.source} is left out: {owners[model]} has its name")
                continue
            owners[model] = rule.source
        rules.append(rule)
    return tuple(rules)
