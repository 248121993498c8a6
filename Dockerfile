# One image: python -m migrations, python -m api, python -m worker, and twin for operators.
# tests/ and with it the local world stay outside (.dockerignore).

FROM python:3.13-slim AS packages
COPY requirements-production.lock /tmp/
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --no-deps --require-hashes -r /tmp/requirements-production.lock

FROM python:3.13-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin twin \
    && install -d -o twin -g twin /var/lib/twin/media
COPY --from=packages /opt/venv /opt/venv
WORKDIR /srv/twin
COPY migrations migrations
COPY shared shared
COPY api api
COPY worker worker
RUN /opt/venv/bin/python -m compileall -q migrations shared api worker \
    && printf '#!/bin/sh\nexec python -m api.cli "$@"\n' > /opt/venv/bin/twin && chmod +x /opt/venv/bin/twin
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/srv/twin PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER twin
VOLUME /var/lib/twin/media
# Exec form, so that SIGTERM reaches the process and it drains.
CMD ["python", "-m", "api"]
