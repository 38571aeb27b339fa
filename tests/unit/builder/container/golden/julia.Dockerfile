FROM registry.test/fac/repo@sha256:1111111111111111111111111111111111111111111111111111111111111111
USER root
RUN export APP_BASE="/srv" && \
export NB_PYTHON_PREFIX="/srv/kernels" && \
export JULIA_PATH="${APP_BASE}/julia" && \
export JULIA_DEPOT_PATH="${JULIA_PATH}/pkg" && \
export JULIA_VERSION="" && \
export JULIA_ARCH="x86_64" && \
export JULIA_ARCH_SHORT="x64" && \
export JUPYTER="${NB_PYTHON_PREFIX}/bin/jupyter" && \
export JUPYTER_DATA_DIR="${NB_PYTHON_PREFIX}/share/jupyter" && \
export JUPYTER="${KERNEL_PYTHON_PREFIX}/bin/jupyter" && \
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" && \
install -d -o 1000 -g 1000 /srv/kernels /srv/kernels/share /srv/kernels/share/jupyter /srv/kernels/share/jupyter/kernels && echo 'export PATH="$PATH:'"${JULIA_PATH}/bin"'"' > /etc/profile.d/language.sh
USER root
RUN export APP_BASE="/srv" && \
export NB_PYTHON_PREFIX="/srv/kernels" && \
export JULIA_PATH="${APP_BASE}/julia" && \
export JULIA_DEPOT_PATH="${JULIA_PATH}/pkg" && \
export JULIA_VERSION="" && \
export JULIA_ARCH="x86_64" && \
export JULIA_ARCH_SHORT="x64" && \
export JUPYTER="${NB_PYTHON_PREFIX}/bin/jupyter" && \
export JUPYTER_DATA_DIR="${NB_PYTHON_PREFIX}/share/jupyter" && \
export JUPYTER="${KERNEL_PYTHON_PREFIX}/bin/jupyter" && \
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" && \
export JULIA_VERSION=1.11.2 && mkdir -p ${JULIA_PATH} && \
curl -sSL "https://server.test/bin/linux/${JULIA_ARCH_SHORT}/${JULIA_VERSION%[.-]*}/julia-${JULIA_VERSION}-linux-${JULIA_ARCH}.tar.gz" | tar -xz -C ${JULIA_PATH} --strip-components 1
USER root
RUN export APP_BASE="/srv" && \
export NB_PYTHON_PREFIX="/srv/kernels" && \
export JULIA_PATH="${APP_BASE}/julia" && \
export JULIA_DEPOT_PATH="${JULIA_PATH}/pkg" && \
export JULIA_VERSION="" && \
export JULIA_ARCH="x86_64" && \
export JULIA_ARCH_SHORT="x64" && \
export JUPYTER="${NB_PYTHON_PREFIX}/bin/jupyter" && \
export JUPYTER_DATA_DIR="${NB_PYTHON_PREFIX}/share/jupyter" && \
export JUPYTER="${KERNEL_PYTHON_PREFIX}/bin/jupyter" && \
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" && \
mkdir -p ${JULIA_DEPOT_PATH} && \
chown ${NB_USER}:${NB_USER} ${JULIA_DEPOT_PATH}
ENV APP_BASE=/srv
ENV JULIA_PATH=${APP_BASE}/julia
ENV JULIA_DEPOT_PATH=${JULIA_PATH}/pkg
ENV JULIA_PROJECT=${REPO_DIR}/binder
ENV PATH=${PATH}:${JULIA_PATH}/bin
ENV JUPYTER_PATH=${JUPYTER_PATH}:/srv/kernels/share/jupyter
USER 1000:1000
WORKDIR ${REPO_DIR}
RUN export APP_BASE="/srv" && \
export NB_PYTHON_PREFIX="/srv/kernels" && \
export JULIA_PATH="${APP_BASE}/julia" && \
export JULIA_DEPOT_PATH="${JULIA_PATH}/pkg" && \
export JULIA_VERSION="" && \
export JULIA_ARCH="x86_64" && \
export JULIA_ARCH_SHORT="x64" && \
export JUPYTER="${NB_PYTHON_PREFIX}/bin/jupyter" && \
export JUPYTER_DATA_DIR="${NB_PYTHON_PREFIX}/share/jupyter" && \
export JUPYTER="${KERNEL_PYTHON_PREFIX}/bin/jupyter" && \
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" && \
JULIA_PROJECT="" julia -e "using Pkg; Pkg.add(\"IJulia\"); using IJulia; installkernel(\"Julia\", \"--project=${REPO_DIR}/binder\");" && \
julia --project=${REPO_DIR}/binder -e 'using Pkg; Pkg.instantiate(); Pkg.resolve(); Pkg.instantiate()'
