# One image, three commands: python -m migrations, python -m api, python -m worker.
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
RUN /opt/venv/bin/python -m compileall -q migrations shared api worker
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER twin
VOLUME /var/lib/twin/media
# Exec form, so that SIGTERM reaches the process and it drains.
CMD ["python", "-m", "api"]
