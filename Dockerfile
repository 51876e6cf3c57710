# docv2 as a container: no root, nothing writable but /data and /tmp. compose.yaml runs it so, behind nginx.
FROM python:3.11-slim-bookworm AS build
WORKDIR /source
COPY requirements.lock setup.cfg pyproject.toml README.md LICENSE ./
RUN python -m venv /opt/docv2 \
    && /opt/docv2/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock
COPY docv2 docv2
COPY migrations migrations
RUN /opt/docv2/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation .

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin docv2 \
    && install -d -m 700 -o docv2 -g docv2 /data
COPY --from=build /opt/docv2 /opt/docv2
ENV PATH=/opt/docv2/bin:$PATH \
    DOCV2_DATA_DIR=/data \
    PYTHONFAULTHANDLER=1
USER 10001:10001
VOLUME /data
EXPOSE 3000
# 503 where the database is gone or the server drains; degraded is well enough.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:3000/api/v2/health', timeout=8)"]
ENTRYPOINT ["docv2"]
CMD ["serve"]
