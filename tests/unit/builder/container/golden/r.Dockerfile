FROM registry.test/fac/repo@sha256:1111111111111111111111111111111111111111111111111111111111111111
USER root
RUN export APP_BASE="/srv" && \
export NB_PYTHON_PREFIX="/srv/kernels" && \
export R_LIBS_USER="${APP_BASE}/rlibs" && \
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" && \
export DEBIAN_FRONTEND=noninteractive PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" && apt-get -qq -o APT::Update::Error-Mode=any update && apt-get install --yes --no-install-recommends gettext-base libapparmor1 libssl-dev lsb-release psmisc sudo unzip wget && apt-get -qq clean && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log
USER root
RUN export APP_BASE="/srv" && \
export NB_PYTHON_PREFIX="/srv/kernels" && \
export R_LIBS_USER="${APP_BASE}/rlibs" && \
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" && \
install -d -o 1000 -g 1000 /srv/kernels /srv/kernels/share /srv/kernels/share/jupyter /srv/kernels/share/jupyter/kernels && echo 'export PATH="$PATH:'"/usr/lib/rstudio-server/bin/"'"' > /etc/profile.d/language.sh
USER root
RUN export APP_BASE="/srv" && \
export NB_PYTHON_PREFIX="/srv/kernels" && \
export R_LIBS_USER="${APP_BASE}/rlibs" && \
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" && \
apt-get update > /dev/null && \
apt-get install --yes --no-install-recommends \
        libclang-dev \
        libzmq3-dev > /dev/null && \
wget --quiet -O /tmp/r-4.4.2.deb \
    https://server.test/r/debian-$(. /etc/os-release && echo $VERSION_ID | sed 's/\.//')/pkgs/r-4.4.2_1_amd64.deb && \
apt install --yes --no-install-recommends /tmp/r-4.4.2.deb > /dev/null && \
rm /tmp/r-4.4.2.deb && \
apt-get -qq purge && \
apt-get -qq clean && \
rm -rf /var/lib/apt/lists/* && \
ln -s /opt/R/4.4.2/bin/R /usr/local/bin/R && \
ln -s /opt/R/4.4.2/bin/Rscript /usr/local/bin/Rscript && \
R --version
USER root
RUN export APP_BASE="/srv" && \
export NB_PYTHON_PREFIX="/srv/kernels" && \
export R_LIBS_USER="${APP_BASE}/rlibs" && \
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" && \
apt-get update > /dev/null && \
if apt-cache search libssl3 | grep -q libssl3; then \
  RSTUDIO_URL="https://server.test/server/jammy/amd64/rstudio-server-2024.12.0-467-amd64.deb" ;\
  RSTUDIO_HASH="1493188cdabcc1047db27d1bd0e46947e39562cbd831158c7812f88d80e742b3" ;\
else \
  RSTUDIO_URL="https://server.test/server/focal/amd64/rstudio-server-2024.12.0-467-amd64.deb" ;\
  RSTUDIO_HASH="052540a8df135d9ce7569ddc2fc9637671103934179691bc3e43298336fc3a8e" ;\
fi && \
curl --silent --location --fail ${RSTUDIO_URL} > /tmp/rstudio.deb && \
curl --silent --location --fail https://server.test/ubuntu-18.04/x86_64/shiny-server-1.5.22.1017-amd64.deb > /tmp/shiny.deb && \
echo "${RSTUDIO_HASH} /tmp/rstudio.deb" | sha256sum -c - && \
echo '0fa40054f038de464a26f3f8c40180a072228454762b7a12ed50568b3256c236 /tmp/shiny.deb' | sha256sum -c - && \
apt install -y --no-install-recommends /tmp/rstudio.deb /tmp/shiny.deb && \
rm /tmp/*.deb && \
apt-get -qq purge && \
apt-get -qq clean && \
rm -rf /var/lib/apt/lists/*
USER root
RUN export APP_BASE="/srv" && \
export NB_PYTHON_PREFIX="/srv/kernels" && \
export R_LIBS_USER="${APP_BASE}/rlibs" && \
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" && \
${KERNEL_PYTHON_PREFIX}/bin/python -m pip --python /srv/jupyter/bin/python install --only-binary=:all: --no-deps --no-compile --no-cache \
    jupyter-rsession-proxy==2.3.0 \
    jupyter-shiny-proxy==1.4
USER root
RUN export APP_BASE="/srv" && \
export NB_PYTHON_PREFIX="/srv/kernels" && \
export R_LIBS_USER="${APP_BASE}/rlibs" && \
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" && \
install -o ${NB_USER} -g ${NB_USER} -d /var/log/shiny-server && \
install -o ${NB_USER} -g ${NB_USER} -d /var/lib/shiny-server && \
install -o ${NB_USER} -g ${NB_USER} /dev/null /var/log/shiny-server.log && \
install -o ${NB_USER} -g ${NB_USER} /dev/null /var/run/shiny-server.pid
USER root
RUN export APP_BASE="/srv" && \
export NB_PYTHON_PREFIX="/srv/kernels" && \
export R_LIBS_USER="${APP_BASE}/rlibs" && \
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" && \
mkdir -p ${R_LIBS_USER} && \
chown -R ${NB_USER}:${NB_USER} ${R_LIBS_USER}
USER root
RUN export APP_BASE="/srv" && \
export NB_PYTHON_PREFIX="/srv/kernels" && \
export R_LIBS_USER="${APP_BASE}/rlibs" && \
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" && \
sed -i -e '/^R_LIBS_USER=/s/^/#/' /opt/R/4.4.2/lib/R/etc/Renviron && \
echo "R_LIBS_USER=${R_LIBS_USER}" >> /opt/R/4.4.2/lib/R/etc/Renviron
USER root
RUN export APP_BASE="/srv" && \
export NB_PYTHON_PREFIX="/srv/kernels" && \
export R_LIBS_USER="${APP_BASE}/rlibs" && \
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" && \
R RHOME && \
mkdir -p /etc/rstudio && \
EXPANDED_CRAN_MIRROR_URL="$(. /etc/os-release && echo https://server.test/${VERSION_CODENAME}/2024-05-01 | envsubst)" && \
echo "options(repos = c(CRAN = \"${EXPANDED_CRAN_MIRROR_URL}\"))" > /opt/R/4.4.2/lib/R/etc/Rprofile.site && \
echo "r-cran-repos=${EXPANDED_CRAN_MIRROR_URL}" > /etc/rstudio/rsession.conf
USER root
RUN export APP_BASE="/srv" && \
export NB_PYTHON_PREFIX="/srv/kernels" && \
export R_LIBS_USER="${APP_BASE}/rlibs" && \
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" && \
printf '[*]\nlog-level=info\nlogger-type=stderr\n' > /etc/rstudio/logging.conf
USER ${NB_USER}
RUN export APP_BASE="/srv" && \
export NB_PYTHON_PREFIX="/srv/kernels" && \
export R_LIBS_USER="${APP_BASE}/rlibs" && \
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" && \
export EXPANDED_CRAN_MIRROR_URL="$(. /etc/os-release && echo https://server.test/${VERSION_CODENAME}/2024-05-01 | envsubst)" && \
R --no-save --no-restore --no-init-file --no-environ --quiet -e "install.packages(c('remotes', 'devtools', 'IRkernel', 'shiny'), repos=Sys.getenv(\"EXPANDED_CRAN_MIRROR_URL\"))" && \
R --no-save --no-restore --no-init-file --no-environ --quiet -e "IRkernel::installspec(prefix=Sys.getenv(\"NB_PYTHON_PREFIX\"))"
ENV APP_BASE=/srv
ENV R_LIBS_USER=${APP_BASE}/rlibs
ENV R_HOME=/opt/R/4.4.2/lib/R
ENV R_DOC_DIR=${R_HOME}/doc
ENV LD_LIBRARY_PATH=${R_HOME}/lib:${LD_LIBRARY_PATH}
ENV PATH=${PATH}:/usr/lib/rstudio-server/bin/
ENV JUPYTER_PATH=${JUPYTER_PATH}:/srv/kernels/share/jupyter
USER root
RUN export DEBIAN_FRONTEND=noninteractive PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" && apt-get -qq -o APT::Update::Error-Mode=any update && apt-get install --yes --no-install-recommends tree && apt-get -qq clean && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log
USER 1000:1000
WORKDIR ${REPO_DIR}
RUN export APP_BASE="/srv" && \
export NB_PYTHON_PREFIX="/srv/kernels" && \
export R_LIBS_USER="${APP_BASE}/rlibs" && \
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" && \
Rscript --no-save --no-restore --no-init-file --no-environ ./install.R
RUN export APP_BASE="/srv" && \
export NB_PYTHON_PREFIX="/srv/kernels" && \
export R_LIBS_USER="${APP_BASE}/rlibs" && \
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" && \
R --no-save --no-restore --no-init-file --no-environ --quiet -e "remotes::install_local()"
RUN chmod +x ./postBuild && ./postBuild
