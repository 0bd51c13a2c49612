"""Partial responses: the parameter ``fields``.

The grammar is that of https://cloud.google.com/storage/docs/json_api#partial-response: ``a,b``, ``a/b``, ``a(b,c)`` and
``*``. A field that the resource does not have is an error, in the words of
https://developers.google.com/drive/api/guides/fields-parameter. The fields of each resource are those of
https://cloud.google.com/storage/docs/json_api/v1 and of the API's discovery document,
https://storage.googleapis.com/$discovery/rest?version=v1.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from trove_async.testing.gcs.errors import ServiceError

__all__ = ["ANY", "Tree", "parsed", "select"]

Tree = Mapping[str, "Tree"]
"""The fields that are selected, each with the selection below it; empty below for all of a field."""

ANY: Final = "*"
"""Every field of an object, in a selection; any name at all, in the fields of a resource."""

_PROJECT_TEAM: Final = "projectTeam(projectNumber,team)"
_ACCESS: Final = f"domain,email,entity,entityId,etag,id,kind,{_PROJECT_TEAM},role,selfLink"
_OWNER: Final = "owner(entity,entityId)"
_LIFECYCLE: Final = (
    "lifecycle/rule(action(storageClass,type),condition(age,createdBefore,customTimeBefore,daysSinceCustomTime,"
    "daysSinceNoncurrentTime,isLive,matchesPattern,matchesPrefix,matchesStorageClass,matchesSuffix,"
    "noncurrentTimeBefore,numNewerVersions))"
)
_IAM_CONFIGURATION: Final = (
    "iamConfiguration(bucketPolicyOnly(enabled,lockedTime),publicAccessPrevention,"
    "uniformBucketLevelAccess(enabled,lockedTime))"
)
_KEY_POLICY: Final = "(effectiveTime,restrictionMode)"
_OBJECT: Final = (
    f"acl(bucket,generation,object,{_ACCESS}),bucket,cacheControl,componentCount,contentDisposition,contentEncoding,"
    "contentLanguage,contentType,contexts/custom/*(createTime,updateTime,value),crc32c,customTime,"
    "customerEncryption(encryptionAlgorithm,keySha256),etag,eventBasedHold,generation,hardDeleteTime,id,isUnfinalized,"
    f"kind,kmsKeyName,md5Hash,mediaLink,metadata/*,metageneration,name,{_OWNER},restoreToken,"
    "retention(mode,retainUntilTime),retentionExpirationTime,selfLink,size,softDeleteTime,storageClass,temporaryHold,"
    "timeCreated,timeDeleted,timeFinalized,timeStorageClassUpdated,updated"
)
_BUCKET: Final = (
    f"acl(bucket,{_ACCESS}),autoclass(enabled,terminalStorageClass,terminalStorageClassUpdateTime,toggleTime),"
    "billing/requesterPays,cors(maxAgeSeconds,method,origin,responseHeader),customPlacementConfig/dataLocations,"
    f"defaultEventBasedHold,defaultObjectAcl(bucket,generation,object,{_ACCESS}),encryption(defaultKmsKeyName,"
    f"customerManagedEncryptionEnforcementConfig{_KEY_POLICY},customerSuppliedEncryptionEnforcementConfig{_KEY_POLICY},"
    f"googleManagedEncryptionEnforcementConfig{_KEY_POLICY}),etag,generation,hardDeleteTime,hierarchicalNamespace/enabled,"
    f"{_IAM_CONFIGURATION},id,ipFilter(allowAllServiceAgentAccess,allowCrossOrgVpcs,mode,"
    "publicNetworkSource/allowedIpCidrRanges,vpcNetworkSources(allowedIpCidrRanges,network)),kind,labels/*,"
    f"{_LIFECYCLE},location,locationType,logging(logBucket,logObjectPrefix),metageneration,name,objectRetention/mode,"
    f"{_OWNER},projectNumber,retentionPolicy(effectiveTime,isLocked,retentionPeriod),rpo,satisfiesPZI,satisfiesPZS,"
    "selfLink,softDeletePolicy(effectiveTime,retentionDurationSeconds),softDeleteTime,storageClass,timeCreated,updated,"
    "versioning/enabled,website(mainPageSuffix,notFoundPage)"
)
_NOTIFICATION: Final = "custom_attributes/*,etag,event_types,id,kind,object_name_prefix,payload_format,selfLink,topic"
_RESOURCES: Final[Mapping[str, str]] = {
    "storage#object": _OBJECT,
    "storage#objects": f"items({_OBJECT}),kind,nextPageToken,prefixes",
    "storage#bucket": _BUCKET,
    "storage#buckets": f"items({_BUCKET}),kind,nextPageToken,unreachable",
    "storage#rewriteResponse": f"done,kind,objectSize,resource({_OBJECT}),rewriteToken,totalBytesRewritten",
    "storage#notification": _NOTIFICATION,
    "storage#notifications": f"items({_NOTIFICATION}),kind",
    "storage#serviceAccount": "email_address,kind",
    "storage#testIamPermissionsResponse": "kind,permissions",
}


def select(value: Any, tree: Tree) -> Any:
    """Return the selected fields of a JSON value; of a list, those of its items."""
    if not tree or (ANY in tree and not tree[ANY]):
        return value
    if isinstance(value, list):
        return [select(item, tree) for item in value]
    if not isinstance(value, dict):
        return value
    everywhere = tree.get(ANY)
    if everywhere is not None:
        return {key: select(item, everywhere) for key, item in value.items()}
    return {key: select(value[key], below) for key, below in tree.items() if key in value}


@lru_cache(maxsize=256)
def parsed(expression: str, kind: str) -> Tree:
    """Parse the value of ``fields`` for a response of a kind, such as ``storage#object``.

    Raises:
        ServiceError: 400; the expression is malformed, or selects a field that the kind does not have.
    """
    tree = _parsed(expression)
    unknown = _unknown(tree, _fields(kind))
    if unknown is not None:
        raise _invalid(unknown)
    return tree


@lru_cache
def _fields(kind: str) -> Tree:
    return _parsed(_RESOURCES[kind])


def _unknown(tree: Tree, fields: Tree) -> str | None:
    """Return the first name in a selection that the fields do not have; None if they have all."""
    for name, below in tree.items():
        if name == ANY and fields:
            unknown = [_unknown(below, known) for known in fields.values()]
            if None not in unknown:
                return unknown[0]
        elif name not in fields and ANY not in fields:
            return name
        elif (found := _unknown(below, fields[name if name in fields else ANY])) is not None:
            return found
    return None


def _parsed(expression: str) -> Tree:
    tree, end = _parse(expression, 0)
    if end != len(expression):
        raise _invalid(expression)
    return MappingProxyType(tree)


def _parse(expression: str, position: int) -> tuple[dict[str, Any], int]:
    tree: dict[str, Any] = {}
    while True:
        branch = tree
        while True:
            start = position
            while position < len(expression) and expression[position] not in ",/()":
                position += 1
            name = expression[start:position].strip()
            if not name:
                raise _invalid(expression)
            branch = branch.setdefault(name, {})
            if position >= len(expression) or expression[position] != "/":
                break
            position += 1
        if position < len(expression) and expression[position] == "(":
            below, position = _parse(expression, position + 1)
            if position >= len(expression) or expression[position] != ")":
                raise _invalid(expression)
            branch.update(below)
            position += 1
        if position >= len(expression) or expression[position] != ",":
            return tree, position
        position += 1


def _invalid(selection: str) -> ServiceError:
    message = f"Invalid field selection {selection}"
    return ServiceError(400, "invalidParameter", message, location=("parameter", "fields"))
