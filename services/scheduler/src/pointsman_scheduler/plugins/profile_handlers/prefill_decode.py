"""Disaggregation: the prompt is computed on one endpoint, and the answer made on another.

The endpoint of the `decode` profile is the primary, and the sidecar in front of it reads from
headers where the prompt is to be computed. Source: llm-d-router's disagg-profile-handler.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from pointsman_scheduler.core.plugin_protocols import Chosen, Conclusion, Decider
from pointsman_scheduler.core.scheduling_request import SchedulingRequest

PREFILL_HEADER = "x-prefiller-host-port"
ENCODE_HEADER = "x-encoder-hosts-ports"

Name = Annotated[str, msgspec.Meta(min_length=1)]


class Profiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    decode: Name = "decode"
    prefill: Name = "prefill"
    encode: Name = "encode"


class Deciders(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names of plugins; a stage without one does not run."""

    prefill: str = ""
    encode: str = ""


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    stage_order: Literal["decode-first", "prefill-first"] = "decode-first"
    """prefill-first: the prompt is always computed apart."""
    profiles: Profiles = Profiles()
    deciders: Deciders = Deciders()


class OlderParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Of `pd-profile-handler`, which upstream has deprecated."""

    decider_plugin_name: str = ""
    threshold: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Without a decider: uncached prompt tokens from which the prompt is computed apart; 0: it
    always is."""
    hash_block_size: int = 0
    """Accepted and without effect: the router makes the blocks."""
    decode_profile: Name = "decode"
    prefill_profile: Name = "prefill"


class DisaggregationHandler:
    """Runs decode, then encode and prefill where their deciders want it.

    A stage whose profile finds nobody is left out, and the decode endpoint does its work.
    """

    def __init__(self, parameters: Parameters, *, prefill: Decider | None = None) -> None:
        self._is = parameters
        self._prefill: Decider | None = prefill
        self._encode: Decider | None = None

    def bind(self, plugins: Mapping[str, object]) -> None:
        names = self._is.deciders
        if names.prefill:
            self._prefill = _decider(plugins, names.prefill)
        if names.encode:
            self._encode = _decider(plugins, names.encode)

    def check(self, profiles: Sequence[str]) -> None:
        wanted = [self._is.profiles.decode]
        if self._prefill_first or self._prefill or self._is.deciders.prefill:
            wanted.append(self._is.profiles.prefill)
        if self._encode:
            wanted.append(self._is.profiles.encode)
        if len(set(wanted)) != len(wanted):
            raise ValueError("one profile for two stages: " + ", ".join(wanted))
        if missing := [name for name in wanted if name not in profiles]:
            raise ValueError(f"no profile {missing[0]!r}; there are: {', '.join(profiles)}")
        if self._prefill_first and self._prefill:
            raise ValueError("stageOrder prefill-first takes no prefill decider")

    def next_profiles(
        self,
        request: SchedulingRequest,
        profiles: Sequence[str],
        results: Mapping[str, Chosen | None],
    ) -> Sequence[str]:
        del profiles
        names = self._is.profiles
        if names.decode not in results:
            return (names.decode,)
        decode = results[names.decode]
        if decode is None:
            return ()
        if self._encode and names.encode not in results and self._encode.wants(request, decode):
            return (names.encode,)
        if names.prefill not in results and (
            self._prefill_first or (self._prefill and self._prefill.wants(request, decode))
        ):
            return (names.prefill,)
        return ()

    def conclude(
        self, request: SchedulingRequest, results: Mapping[str, Chosen | None]
    ) -> Conclusion | None:
        names, headers, prefill_profile = self._is.profiles, dict[str, str](), ""
        decode = results[names.decode]
        if decode is None:
            return None
        encode, prefill = results.get(names.encode), results.get(names.prefill)
        if encode is not None and (
            self._encode is None or self._encode.confirms(request, decode, encode)
        ):
            headers[ENCODE_HEADER] = ",".join(one.address for one in encode.chosen)
        if (
            prefill is not None
            and prefill.chosen[0].uid != decode.chosen[0].uid
            and (self._prefill is None or self._prefill.confirms(request, decode, prefill))
        ):
            headers[PREFILL_HEADER] = prefill.chosen[0].address
            prefill_profile = names.prefill
        return Conclusion(primary=names.decode, headers=headers, prefill=prefill_profile)

    @property
    def _prefill_first(self) -> bool:
        return self._is.stage_order == "prefill-first"


def older_handler(parameters: OlderParameters) -> DisaggregationHandler:
    """A `pd-profile-handler`."""
    decider, least = parameters.decider_plugin_name, parameters.threshold
    otherwise = UncachedDecider(UncachedParameters(least)) if least else AlwaysDecider()
    return DisaggregationHandler(
        Parameters(
            profiles=Profiles(parameters.decode_profile, parameters.prefill_profile),
            deciders=Deciders(prefill=decider),
        ),
        prefill=None if decider else otherwise,
    )


class UncachedParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    non_cached_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Uncached prompt tokens from which the prompt is computed apart; 0: never."""
    prompt_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Prompt tokens below which it never is."""


class UncachedDecider:
    """Disaggregates the prompts of which the decode endpoint lacks much.

    Source: llm-d-router's prefix-based-pd-decider.
    """

    def __init__(self, parameters: UncachedParameters) -> None:
        self._is = parameters

    def wants(self, request: SchedulingRequest, decode: Chosen) -> bool:
        least, length = self._is.non_cached_tokens, request.prompt_tokens
        if not least or length < max(least, self._is.prompt_tokens):
            return False
        return length - decode.cached_blocks * request.block_tokens >= least

    def confirms(self, request: SchedulingRequest, decode: Chosen, stage: Chosen) -> bool:
        del request, decode, stage
        return True


class AlwaysDecider:
    """Disaggregates every prompt. Source: llm-d-router's always-disagg-pd-decider."""

    def wants(self, request: SchedulingRequest, decode: Chosen) -> bool:
        del request, decode
        return True

    def confirms(self, request: SchedulingRequest, decode: Chosen, stage: Chosen) -> bool:
        del request, decode, stage
        return True


class TransferParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    transfer_token_seconds: Annotated[float, msgspec.Meta(ge=0)] = 5e-6
    """To move a prompt token's KV to the other engine: 128 KiB of an 8B model at 25 GB/s."""
    transfer_seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.005
    """To begin a transfer."""


class PredictedLatencyDecider:
    """Disaggregates where the first token is predicted to come earlier so, transfer included.

    Both profiles need a scorer that predicts; without predictions nothing is disaggregated.
    """

    def __init__(self, parameters: TransferParameters) -> None:
        self._is = parameters

    def wants(self, request: SchedulingRequest, decode: Chosen) -> bool:
        """Not where the bare transfer would take longer than the whole."""
        return decode.predicted_ttft_s > self._transfer_s(request)

    def confirms(self, request: SchedulingRequest, decode: Chosen, stage: Chosen) -> bool:
        if not stage.predicted_ttft_s:
            return False
        return stage.predicted_ttft_s + self._transfer_s(request) < decode.predicted_ttft_s

    def _transfer_s(self, request: SchedulingRequest) -> float:
        return self._is.transfer_seconds + self._is.transfer_token_seconds * request.prompt_tokens


def _decider(plugins: Mapping[str, object], name: str) -> Decider:
    plugin = plugins.get(name)
    if not isinstance(plugin, Decider):
        raise ValueError(f"{name!r} is no decider" if plugin else f"no plugin is called {name!r}")
    return plugin
