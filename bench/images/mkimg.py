#!/usr/bin/env python3
"""mkimg.py DIR IMAGE...   builds the OCI images that the comparisons use, as layouts DIR/<image> with the tag latest.

Layer by layer by overlayfs and chroot; each upper directory becomes one gzip layer, with
whiteouts, an opaque directory, hard links, a fifo and foreign owners. Needs root, mmdebstrap,
pip and the network. What is there already is not made again. Images: python, redis."""
import ctypes, os, sys, subprocess, hashlib, json, stat, tarfile, shutil, time
FILES=os.path.dirname(os.path.abspath(__file__))+'/files'
if len(sys.argv)<3: sys.exit(__doc__)
OUT=os.path.abspath(sys.argv[1]); WORK=OUT+'/work'; L=WORK+'/layers'
APT="export DEBIAN_FRONTEND=noninteractive; apt-get update -q && apt-get install -y -q --no-install-recommends %s && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/*.log /var/log/apt"
LAYERS={
 'base': None,
 'common': APT%'ca-certificates curl netbase tzdata gnupg dirmngr less procps',
 'py3': APT%'python3 python3-pip python3-venv python3-distutils libgomp1',
 'py-numpy': 'pip3 install --break-system-packages --no-cache-dir --no-index --find-links /mnt/wheels numpy scipy',
 'py-pandas': 'pip3 install --break-system-packages --no-cache-dir --no-index --find-links /mnt/wheels pandas',
 'py-sk': 'pip3 install --break-system-packages --no-cache-dir --no-index --find-links /mnt/wheels scikit-learn matplotlib',
 'py-app': 'mkdir -p /app && cp /mnt/files/app.py /app/ && rm -rf /usr/share/doc/python3-pip /usr/share/man && mkdir /usr/share/man && echo replaced >/usr/share/man/README && useradd -m app && chown -R app /app && ln /app/app.py /app/hard.py && ln -s app.py /app/sym.py && mkfifo /app/fifo && chmod 2755 /app',
 'redis': APT%'redis-server',
 'redis-app': 'cp /mnt/files/redis.sh /usr/local/bin/ && chmod 755 /usr/local/bin/redis.sh',
}
IMAGES={
 'python': (['base','common','py3','py-numpy','py-pandas','py-sk','py-app'], ['python3','/app/app.py']),
 'redis':  (['base','common','redis','redis-app'], ['/usr/local/bin/redis.sh']),
}
def sh(*a,**k): return subprocess.run(a,check=True,**k)
def prepare(names):
    # In a mount namespace of its own: whatever ends this program, no mount of it stays.
    if ctypes.CDLL(None,use_errno=True).unshare(0x20000): sys.exit('mkimg.py: no mount namespace of its own: '+os.strerror(ctypes.get_errno())+' (it needs root)')
    sh('mount','--make-rprivate','/')
    os.makedirs(L,exist_ok=True)
    base=WORK+'/base.tar'
    if not os.path.exists(base):
        sh('mmdebstrap','--format=tar','--variant=minbase','bookworm',base+'.part'); os.rename(base+'.part',base)
    wheels=WORK+'/wheels'
    if 'python' in names and not os.path.exists(wheels+'/.ok'):
        sh('pip','download','-d',wheels,'--only-binary=:all:','--python-version','3.11','numpy','scipy','pandas','scikit-learn','matplotlib')
        open(wheels+'/.ok','w').close()
    os.makedirs(wheels,exist_ok=True)
def build(chain):
    name=chain[-1]; d=f'{L}/{name}'
    if os.path.exists(d+'/.ok'): return
    shutil.rmtree(d,ignore_errors=True); os.makedirs(d+'/diff'); os.makedirs(d+'/work')
    if name=='base':
        sh('tar','-C',d+'/diff','--xattrs','-xf',WORK+'/base.tar','--exclude=./dev/*')
    else:
        m=d+'/m'; os.makedirs(m)
        low=':'.join(f'{L}/{x}/diff' for x in reversed(chain[:-1]))
        sh('mount','-t','overlay','overlay','-o',f'lowerdir={low},upperdir={d}/diff,workdir={d}/work',m)
        try:
            sh('mount','--bind','/proc',m+'/proc'); sh('mount','--bind','/dev',m+'/dev'); sh('mount','-t','tmpfs','tmpfs',m+'/mnt')
            for x,source in(('wheels',WORK+'/wheels'),('files',FILES)):
                os.makedirs(f'{m}/mnt/{x}'); sh('mount','--bind',source,f'{m}/mnt/{x}')
            # DNS/hosts and CA by bind mount so that they do not enter the layer
            binds=[]
            for f in('/etc/resolv.conf','/etc/hosts'):
                if not os.path.exists(m+f): open(m+f,'w').close()
                sh('mount','--bind',f,m+f); binds.append(f)
            sh('mount','-t','tmpfs','tmpfs',m+'/var/cache/apt/archives'); os.makedirs(m+'/var/cache/apt/archives/partial')
            with open(m+'/mnt/policy','w') as f: pass
            pol=m+'/usr/sbin/policy-rc.d'; open(pol,'w').write('#!/bin/sh\nexit 101\n'); os.chmod(pol,0o755)
            env={'PATH':'/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin','HOME':'/root','LC_ALL':'C'}
            sh('chroot',m,'sh','-ec',LAYERS[name],env=env)
            os.unlink(pol)
        finally:
            subprocess.run(f"grep ' {m}' /proc/mounts | awk '{{print $2}}' | sort -r | xargs -r -n1 umount",shell=True)
        os.rmdir(m)
    pack(d,name=='base'); open(d+'/.ok','w').close()
def pack(d,base):
    diff=d+'/diff'; names=[]
    raw=d+'/layer.tar'
    with tarfile.open(raw,'w',format=tarfile.PAX_FORMAT) as t:
        links={}
        def add(p,arc):
            st=os.lstat(p)
            if arc:
                if stat.S_ISCHR(st.st_mode) and st.st_rdev==0:
                    ti=tarfile.TarInfo(os.path.join(os.path.dirname(arc),'.wh.'+os.path.basename(arc))); ti.mtime=int(st.st_mtime); t.addfile(ti); return
                ti=tarfile.TarInfo(arc); ti.mode=stat.S_IMODE(st.st_mode); ti.uid=st.st_uid; ti.gid=st.st_gid; ti.mtime=int(st.st_mtime)
                xs={}
                try:
                    for x in os.listxattr(p,follow_symlinks=False):
                        if not x.startswith('trusted.overlay'): ti.pax_headers['SCHILY.xattr.'+x]=os.getxattr(p,x,follow_symlinks=False).decode('utf-8','surrogateescape')
                except OSError: pass
                if stat.S_ISDIR(st.st_mode): ti.type=tarfile.DIRTYPE; t.addfile(ti)
                elif stat.S_ISLNK(st.st_mode): ti.type=tarfile.SYMTYPE; ti.linkname=os.readlink(p); t.addfile(ti)
                elif stat.S_ISREG(st.st_mode):
                    k=(st.st_dev,st.st_ino)
                    if st.st_nlink>1 and k in links: ti.type=tarfile.LNKTYPE; ti.linkname=links[k]; t.addfile(ti)
                    else:
                        links[k]=arc; ti.size=st.st_size
                        with open(p,'rb') as f: t.addfile(ti,f)
                elif stat.S_ISFIFO(st.st_mode): ti.type=tarfile.FIFOTYPE; t.addfile(ti)
                elif stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
                    ti.type=tarfile.CHRTYPE if stat.S_ISCHR(st.st_mode) else tarfile.BLKTYPE; ti.devmajor=os.major(st.st_rdev); ti.devminor=os.minor(st.st_rdev); t.addfile(ti)
            if stat.S_ISDIR(st.st_mode):
                try:
                    if os.getxattr(p,'trusted.overlay.opaque')==b'y' and arc:
                        ti=tarfile.TarInfo(arc+'/.wh..wh..opq'); t.addfile(ti)
                except OSError: pass
                for n in sorted(os.listdir(p)): 
                    if not arc and n=='mnt' and not base: continue
                    add(p+'/'+n,(arc+'/'+n) if arc else n)
        add(diff,'')
    h=hashlib.sha256()
    with open(raw,'rb') as f:
        while b:=f.read(1<<20): h.update(b)
    sz=os.path.getsize(raw)
    with open(d+'/layer.tar.gz','wb') as o: sh('gzip','-6','-n','-c',raw,stdout=o)
    g=hashlib.sha256()
    with open(d+'/layer.tar.gz','rb') as f:
        while b:=f.read(1<<20): g.update(b)
    nf=int(subprocess.check_output(f'tar -tf {raw} | wc -l',shell=True))
    json.dump({'diff':h.hexdigest(),'gz':g.hexdigest(),'gzsize':os.path.getsize(d+'/layer.tar.gz'),'tarsize':sz,'entries':nf},open(d+'/meta.json','w'))
    os.unlink(raw)
def image(name):
    chain,cmd=IMAGES[name]
    for i in range(1,len(chain)+1):
        t=time.time(); build(chain[:i]); print(name,chain[i-1],'%.0fs'%(time.time()-t),json.load(open(f'{L}/{chain[i-1]}/meta.json')),flush=True)
    o=f'{OUT}/{name}'; shutil.rmtree(o,ignore_errors=True); os.makedirs(o+'/blobs/sha256')
    ms=[json.load(open(f'{L}/{x}/meta.json')) for x in chain]
    for x,m in zip(chain,ms): os.link(f'{L}/{x}/layer.tar.gz',f"{o}/blobs/sha256/{m['gz']}")
    def blob(obj):
        b=json.dumps(obj).encode(); s=hashlib.sha256(b).hexdigest(); open(f'{o}/blobs/sha256/{s}','wb').write(b); return 'sha256:'+s,len(b)
    ts='2026-01-01T00:00:00Z'
    cd,cs=blob({'created':ts,'architecture':'amd64','os':'linux','config':{'Env':['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],'Cmd':cmd,'WorkingDir':'/'},'rootfs':{'type':'layers','diff_ids':['sha256:'+m['diff'] for m in ms]},'history':[{'created':ts,'created_by':'mkimg '+x} for x in chain]})
    md,mz=blob({'schemaVersion':2,'mediaType':'application/vnd.oci.image.manifest.v1+json','config':{'mediaType':'application/vnd.oci.image.config.v1+json','digest':cd,'size':cs},'layers':[{'mediaType':'application/vnd.oci.image.layer.v1.tar+gzip','digest':'sha256:'+m['gz'],'size':m['gzsize']} for m in ms]})
    json.dump({'schemaVersion':2,'manifests':[{'mediaType':'application/vnd.oci.image.manifest.v1+json','digest':md,'size':mz,'platform':{'architecture':'amd64','os':'linux'},'annotations':{'org.opencontainers.image.ref.name':'latest'}}]},open(o+'/index.json','w'))
    json.dump({'imageLayoutVersion':'1.0.0'},open(o+'/oci-layout','w'))
    print('IMAGE',name,len(chain),'layers gz=%d tar=%d entries=%d'%(sum(m['gzsize'] for m in ms),sum(m['tarsize'] for m in ms),sum(m['entries'] for m in ms)),flush=True)
if __name__=='__main__':
    prepare(sys.argv[2:])
    for n in sys.argv[2:]: image(n)
