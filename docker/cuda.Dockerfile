# A node with NVIDIA GPUs: vLLM's image with this project. From the repository's root:
#   docker build -f docker/cuda.Dockerfile -t pangu-rl:cuda .
#   docker run --gpus all --network host --shm-size 64g -v /shared:/shared -it pangu-rl:cuda
ARG VLLM=v0.32.0
FROM vllm/vllm-openai:${VLLM}

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /opt/pangu_rl

# The image has vllm and torch: the extra names the same vllm, which asks for the same torch, so nothing replaces them.
COPY . .
RUN DS_BUILD_OPS=0 python3 -m pip install --no-cache-dir -e '.[cuda]'

ENTRYPOINT []
CMD ["/bin/bash"]
