# One image for a whole federation: its server, its nodes, and what sets them up.
#
#   docker build --tag collabedit-flower .
#   docker build --tag collabedit-flower:cuda \
#       --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .
#
# docs/containers.md says how to run it.

# Any image of Debian with Python 3.11 or newer and pip, for all stages.
ARG BASE=python:3.11-slim


# What is needed at run time, in a stage of its own: settings beside it may change without
# an installation. Flower's simulation is left out, and with it Ray: every node is real.
FROM ${BASE} AS requirements

COPY pyproject.toml .
RUN python3 -c 'import tomllib; \
project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
print(*project["dependencies"], sep="\n")' \
        | sed 's/^flwr\[simulation\]/flwr/' > /requirements.txt


FROM ${BASE} AS build

# Where the pinned torch is taken from; it says for which processor the build is. Its own
# requirements, CUDA's libraries among them, come with the rest in the second step.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

WORKDIR /build
COPY constraints.txt .
RUN python3 -m venv --without-pip /opt/venv \
    && python3 -m pip --python /opt/venv/bin/python install --no-cache-dir --no-deps \
        --index-url "$TORCH_INDEX" "$(sed -n '/^torch==/p' constraints.txt)"
COPY --from=requirements /requirements.txt .
RUN python3 -m pip --python /opt/venv/bin/python install --no-cache-dir \
        --constraint constraints.txt --requirement requirements.txt \
    && rm -rf /opt/venv/lib/python3*/site-packages/torch/include

COPY . /app
RUN chmod -R a+rX /app && /opt/venv/bin/python -m compileall -q /app


FROM ${BASE}

# The proxy in front of the SuperLink is a program of this image too.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends nginx-light \
    && rm -rf /var/lib/apt/lists/*

# A new volume takes the owner of the folder it is first mounted on, so each place of a
# volume is made here; /volumes is for the services that hand out files to nodes.
RUN useradd --uid 10001 --user-group --home-dir /state --no-create-home \
        --shell /usr/sbin/nologin collabedit \
    && mkdir -p /state/tmp /credentials /public /private /models /app/results \
        /volumes/credentials /volumes/superlink /volumes/public \
    && for node in $(seq 0 63); do \
        mkdir "/volumes/node-$node" "/volumes/requests-$node"; \
    done \
    && chown -R 10001:10001 /state /credentials /public /private /app/results /volumes \
    && chmod 0700 /state /credentials /private /volumes/*

COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app

# Nothing is reported or fetched, and all that is written goes to /state or /tmp.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/state XDG_CACHE_HOME=/state/cache TMPDIR=/state/tmp \
    FLWR_HOME=/state/flower COLLABEDIT_HOME=/state/private \
    FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1 \
    FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1 HF_HUB_DISABLE_TELEMETRY=1

WORKDIR /app
USER 10001:10001
CMD ["python", "-m", "sims", "--help"]
