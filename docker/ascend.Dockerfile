# An Ascend node: vllm-ascend's image (CANN, NNAL, torch-npu, vLLM) with this project. From the repository's root:
#   docker build -f docker/ascend.Dockerfile -t pangu-rl:ascend .
# For an Atlas A3, --build-arg VLLM_ASCEND=v0.23.0-a3. How to run it is in docs/ascend.md.
ARG VLLM_ASCEND=v0.23.0
FROM quay.io/ascend/vllm-ascend:${VLLM_ASCEND}

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /opt/pangu_rl

# DeepSpeed has no wheel; its setup imports torch, and torch-npu beside it needs a driver, which a build has not.
COPY requirements/ascend.lock requirements/
RUN sed -n '/^# Installed/,$p' requirements/ascend.lock > /tmp/installed.txt \
 && grep -v '^deepspeed==' /tmp/installed.txt > /tmp/wheels.txt \
 && grep '^deepspeed==' /tmp/installed.txt > /tmp/source.txt \
 && python3 -m pip install --no-cache-dir --no-deps --require-hashes --only-binary :all: -r /tmp/wheels.txt \
 && TORCH_DEVICE_BACKEND_AUTOLOAD=0 DS_ACCELERATOR=cpu DS_BUILD_OPS=0 \
    python3 -m pip install --no-cache-dir --no-deps --require-hashes --no-build-isolation -r /tmp/source.txt \
 && rm /tmp/installed.txt /tmp/wheels.txt /tmp/source.txt

COPY . .
RUN python3 -m pip install --no-cache-dir --no-deps --no-build-isolation -e .

# The image exports TASK_QUEUE_ENABLE=1, which is right for engines.
ENV PANGU_RL_LEARNER_TASK_QUEUE_ENABLE=2

# CANN's and ATB's variables, for what is started without a login shell too.
ENTRYPOINT ["/bin/bash", "-c", "source /usr/local/Ascend/ascend-toolkit/set_env.sh && source /usr/local/Ascend/nnal/atb/set_env.sh && exec \"$@\"", "--"]
CMD ["/bin/bash"]
