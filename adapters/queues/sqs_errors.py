"""What goes wrong with SQS, in the words of the runner's own errors; no text repeats a key or a signature."""

from __future__ import annotations

from runner.credential import Credential
from runner.errors import BadInput, ConfigurationError, LeaseLost, Refused, RunnerError, Unavailable

_HANDLES = {"ReceiptHandleIsInvalid", "MessageNotInflight"}
_KEYS = {
    "InvalidClientTokenId": "access_key is not known there",
    "UnrecognizedClientException": "access_key is not known there",
    "InvalidAccessKeyId": "access_key is not known there",
    "SignatureDoesNotMatch": "secret_key does not belong to access_key",
    "InvalidSignatureException": "secret_key does not belong to access_key",
    "IncompleteSignature": "access_key or secret_key is cut off",
    "ExpiredToken": "session_token has expired: put in a new one, with its keys",
    "ExpiredTokenException": "session_token has expired: put in a new one, with its keys",
    "MissingAuthenticationToken": "no key was sent: name access_key and secret_key",
    "OptInRequired": "the account may not use SQS in this region: look at the region in url",
    "RequestExpired": "the clock of this box is wrong: set it",
}
_DENIED = {"AccessDenied", "AccessDeniedException", "InvalidSecurity", "KmsAccessDenied", "AuthorizationError"}
_CONTENT = {"InvalidMessageContents", "InvalidParameterValue", "InvalidAttributeValue", "MessageTooLong"}
_BUSY = {"Throttling", "ThrottlingException", "RequestThrottled", "IDPCommunicationError"}
_SERVER_ERROR = 500
_MESSAGE_MAX = 300
_MISSING = {"NonExistentQueue", "QueueDoesNotExist"}


class QueueMissing(Unavailable):
    """There is no such queue now; it may be made, or come back."""


class NoKeys(ConfigurationError):
    """There are no keys, or they no longer count; there may be others when they are looked for again."""


def in_words(action: str, what: str, error: Exception, credential: Credential) -> RunnerError:
    """Return the error that says what was attempted, on which queue, and what to do."""
    from botocore import exceptions as sdk

    tried = f"{_name(action)} {what}".rstrip()
    match error:
        case sdk.ClientError(operation_name=asked) if asked != _name(action):
            return _keys_refused(f"{tried}: no keys were found: {asked} answered", error)
        case sdk.ClientError():
            return _answered(action, tried, error, credential)
        case sdk.NoRegionError():
            return ConfigurationError(f"{tried}: no region: name it in the credential file: sqs://us-east-1/queue")
        case sdk.NoCredentialsError() | sdk.PartialCredentialsError():
            return NoKeys(f"{tried}: no keys were found in {_looked_at(credential)}")
        case sdk.InvalidConfigError() | sdk.SSOError():
            return NoKeys(f"{tried}: no keys were found: {error}")
        case FileNotFoundError() | PermissionError():
            return NoKeys(f"{tried}: cannot read {error.filename}: {error.strerror}")
        case sdk.ProfileNotFound() | sdk.InvalidRegionError() | sdk.ParamValidationError() | ValueError():
            return ConfigurationError(f"{tried}: {error}: mend the credential file")
        case _:
            return Unavailable(f"{tried}: no answer: {type(error).__name__}: {_short(str(error))}")


def error_code(error: object) -> str:
    """Return a service's own name for an error, without the namespaces that its protocols put before it."""
    response = getattr(error, "response", {})
    return str(response.get("Error", {}).get("Code", "")).rpartition("#")[2].rpartition(".")[2]


def _looked_at(credential: Credential) -> str:
    if profile := credential.options.get("profile"):
        return f"the profile {profile}: write them into the AWS files of the runner's own user"
    return (
        "the credential file, the runner's environment, the AWS files of its user, a web identity or the role of this "
        "box: write access_key and secret_key into the file, or give the runner one of the others"
    )


def _keys_refused(told: str, error: Exception) -> RunnerError:
    """Tell what a service that hands out keys answered."""
    code = error_code(error)
    if _status(error) >= _SERVER_ERROR or code in _BUSY:
        return Unavailable(f"{told} {code}: {_message(error)}")
    return NoKeys(f"{told} {code}: {_message(error)}: look at the role, whom it trusts, and the token")


def _answered(action: str, tried: str, error: Exception, credential: Credential) -> RunnerError:
    code, message = error_code(error), _message(error)
    if code in _KEYS:
        source = "the credential file" if "access_key" in credential.secrets else "where the runner has its keys from"
        return NoKeys(f"{tried}: {code}: mend {source}: {_KEYS[code]}")
    if code in _DENIED:
        return Refused(f"{tried}: access denied: the key's policy must allow sqs:{_name(action)} there ({message})")
    if code in _MISSING:
        return QueueMissing(f"{tried}: there is no such queue (any more)")
    if code in _HANDLES or (code == "InvalidParameterValue" and "ReceiptHandle" in message) or _is_expired(message):
        return LeaseLost(f"{tried}: the claim lapsed or was settled; another box may have it")
    if code in _CONTENT and action == "send_message":
        return BadInput(f"{tried}: {message}")
    if code in _CONTENT or code in {"InvalidAddress", "UnsupportedOperation", "InvalidAttributeName"}:
        return ConfigurationError(f"{tried}: {code}: {message}")
    return Unavailable(f"{tried}: answered {code or _status(error)}: {message}")


def _status(error: object) -> int:
    return int(getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _is_expired(message: str) -> bool:
    """Tell the answer to a handle that no longer counts, which comes without the parameter's name."""
    lowered = message.lower()
    return "receipt handle has expired" in lowered or "receipthandle is invalid" in lowered


def _message(error: Exception) -> str:
    return _short(str(getattr(error, "response", {}).get("Error", {}).get("Message", "")))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MESSAGE_MAX else line[:_MESSAGE_MAX] + "…"


def _name(action: str) -> str:
    return "".join(part.capitalize() for part in action.split("_"))
