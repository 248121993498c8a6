"""What the API alone is told: where it listens, who signs people in, who may call it from a browser.

It has no RunPod key and never will: the doors do not call RunPod.
"""

from datetime import timedelta
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from shared.settings import Settings, as_origin

CommaSeparated = Annotated[tuple[str, ...], NoDecode]


class ApiSettings(Settings):
    """Settings of `python -m api`."""

    host: str = Field("127.0.0.1", validation_alias="HOST")
    port: int = Field(8000, ge=0, le=65535, validation_alias="PORT")
    clerk_issuer: str = Field(validation_alias="CLERK_ISSUER")
    clerk_jwks_url: str | None = Field(None, validation_alias="CLERK_JWKS_URL")
    clerk_jwt_key: str | None = Field(
        None, validation_alias="CLERK_JWT_KEY", description="the instance's public key as PEM, for when JWKS is away"
    )
    clerk_authorized_parties: CommaSeparated = Field(
        (), validation_alias="CLERK_AUTHORIZED_PARTIES", description="origins whose sessions count; default PUBLIC_URL"
    )
    sign_in_url: str | None = Field(
        None, validation_alias="CLERK_SIGN_IN_URL", description="where the page sends people to sign in"
    )
    cors_origins: CommaSeparated = Field((), validation_alias="CORS_ORIGINS")
    upgrade_url: str | None = Field(None, validation_alias="UPGRADE_URL")
    admins: CommaSeparated = Field((), validation_alias="TWIN_ADMINS")
    delete_after: timedelta = Field(
        timedelta(days=30),
        ge=timedelta(minutes=1),
        le=timedelta(days=365),
        validation_alias="TWIN_DELETE_AFTER_SECONDS",
        description="how long a deleted generation can be restored; then it is erased",
    )
    metrics_token: SecretStr | None = Field(None, validation_alias="METRICS_TOKEN")

    @field_validator("delete_after", mode="before")
    @classmethod
    def _seconds(cls, value: object) -> object:
        return float(value) if isinstance(value, str) else value

    @field_validator("clerk_authorized_parties", "cors_origins", "admins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("clerk_authorized_parties", "cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(as_origin(origin) for origin in value)

    @field_validator("clerk_issuer", "clerk_jwks_url", "sign_in_url", "upgrade_url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("https://", "http://")):
            msg = "must be a full https:// address"
            raise ValueError(msg)
        return value

    @field_validator("clerk_jwt_key")
    @classmethod
    def _pem(cls, value: str | None) -> str | None:
        if value is None:
            return None
        # Dashboards and .env files keep the line breaks of a PEM as the two characters \n.
        pem = value.replace("\\n", "\n")
        try:
            key = load_pem_public_key(pem.encode())
        except ValueError as error:
            msg = "must be the PEM public key that Clerk shows under API keys"
            raise ValueError(msg) from error
        if not isinstance(key, RSAPublicKey):
            msg = "must be an RSA key: sessions are signed with RS256"
            raise ValueError(msg)
        return pem

    @property
    def jwks_url(self) -> str:
        """Where the issuer publishes its keys."""
        return self.clerk_jwks_url or f"{self.clerk_issuer.rstrip('/')}/.well-known/jwks.json"

    @property
    def authorized_parties(self) -> frozenset[str]:
        """Origins that a session may have been made for."""
        return frozenset(self.clerk_authorized_parties or (self.public_url,))
