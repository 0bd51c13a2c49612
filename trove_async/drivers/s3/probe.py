"""Probe an S3 service: which conditions and features it has, which profile fits, and which DSN parameters it needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from trove_async.cancellation import finish
from trove_async.driver import Condition
from trove_async.drivers.s3.probing import Finding, Prober
from trove_async.drivers.s3.profiles import CONDITIONS, PROFILES, Profile, profile_for
from trove_async.types import FrozenDict

__all__ = ["Finding", "Probe", "probe"]

_CLEANUP_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Probe:
    """The result of a probe.

    Attributes:
        findings: in the order of the checks: each kind of condition, then ``quotes_etags``, ``tags``,
            ``versioning``, ``bulk_delete``, ``multipart``, ``unequal_parts``, ``control_characters`` and
            ``plain_writes`` (whether writes without a condition survive races with conditional ones).
        profile: the name of the profile that fits best.
        differences: the names of the findings, except conditions, that differ from that profile.
        parameters: the parameters that the DSN should have; may be empty.
    """

    findings: tuple[Finding, ...]
    profile: str
    differences: tuple[str, ...]
    parameters: Mapping[str, str]

    @property
    def conditions(self) -> frozenset[Condition]:
        """The kinds of condition that the service honours."""
        return frozenset(condition for condition in CONDITIONS if self.works(condition))

    def works(self, name: str) -> bool | None:
        """Return the result of one check; None if the check was not possible."""
        return next(finding.works for finding in self.findings if finding.name == name)


async def probe(prober: Prober, endpoint: str | None) -> Probe:
    """Make the requests of a probe, remove the objects that they stored, and choose the profile; see `S3Driver.probe`.

    Args:
        prober: makes the requests.
        endpoint: of the store.
    """
    try:
        findings = await prober.run()
    finally:
        leftover = f"the objects that begin with {prober.prefix!r} in bucket {prober.bucket!r}"
        await finish(prober.clean(), timeout=_CLEANUP_SECONDS, leftover=leftover)
    return fit(findings, endpoint)


def fit(findings: tuple[Finding, ...], endpoint: str | None) -> Probe:
    """Choose the profile that fits the findings best.

    The best profile declares the fewest features that were not found, and then lacks the fewest that were found. If
    several are equal, the conditions decide, and finally the endpoint's default profile is preferred.

    Args:
        findings: of a `Prober`.
        endpoint: of the store.
    """
    found = {finding.name: finding.works for finding in findings}
    honoured = frozenset(condition for condition in CONDITIONS if found[condition])
    own = profile_for(endpoint, None)
    # The endpoint's default needs no parameter; Amazon's addresses and checksums are for Amazon only.
    others = (profile for profile in PROFILES.values() if profile.name != "aws" and endpoint is not None)
    candidates = dict.fromkeys((own, *others))

    def distance(profile: Profile) -> tuple[int, int, int]:
        wrong, lacking = _differences(found, profile)
        return len(wrong), len(lacking), len(profile.conditions ^ honoured)

    best = min(candidates, key=distance)
    wrong, lacking = _differences(found, best)
    if "quotes_etags" in wrong:
        honoured -= {"put_if_match"}  # it would be sent in a form that the service does not understand
    parameters = {}
    if best is not own:
        parameters["profile"] = best.name
    if best.conditions != honoured:
        parameters["conditions"] = _listed(honoured)
    return Probe(findings, best.name, (*wrong, *lacking), FrozenDict(parameters))


def _differences(found: Mapping[str, bool | None], profile: Profile) -> tuple[list[str], list[str]]:
    """Return the features that a profile declares but were not found, and those that it lacks but were found."""
    claims = {
        "quotes_etags": profile.quotes_etags,
        "tags": profile.tags,
        "versioning": profile.versioning,
        "bulk_delete": profile.bulk_delete,
        "unequal_parts": not profile.equal_parts,
        "control_characters": profile.control_characters,
    }
    different = [name for name, claimed in claims.items() if found[name] is not None and found[name] != claimed]
    wrong = [name for name in different if claims[name] or name == "quotes_etags"]
    return wrong, [name for name in different if name not in wrong]


def _listed(conditions: Iterable[Condition]) -> str:
    return ",".join(sorted(conditions)) or "none"
