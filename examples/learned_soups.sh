#!/usr/bin/env bash
# Learns soups of three kinds on real images and compares them with the grid. docs/results.md has
# the results of the first two.
#
#   examples/learned_soups.sh DATA OUT
#
# Run examples/threat_soup.sh DATA OUT first: this script uses its ingredients and its grid. Every
# step resumes: run the script again after an interruption. It takes about three hours on two CPU
# cores.
set -eu
data=folder:$1
out=$2
train="--data $data --precision bf16 --split train[:45000]"
choose="--data $data --split train[45000:] --threat linf:8/255"
judge="--judge-split test --judge-limit 1000 --threat linf:8/255"

# More ingredients: other radii, and snapshots of one run (on a third of the data, to save time).
for eps in 4 16; do
    soupmerge finetune "$out/base.safetensors" --threat "linf:$eps/255" $train \
        --epochs 4 --lr 0.01 -o "$out/linf-$eps.safetensors"
done
soupmerge finetune "$out/base.safetensors" --threat linf:8/255 $train --limit 15000 \
    --epochs 5 --lr 0.01 --every 1 -o "$out/cont.safetensors"

threat="$out/linf.safetensors $out/l2.safetensors $out/l1.safetensors"
eps="$out/linf-4.safetensors $out/linf.safetensors $out/linf-16.safetensors"
continuous=$(for n in 1 2 3 4 5; do echo "$out/cont-epoch$n.safetensors"; done)

soupmerge grid $eps $choose --limit 500 -o "$out/grid-eps"
soupmerge grid $continuous $choose --step 0.5 --limit 500 -o "$out/grid-continuous"
ln -sfn grid "$out/grid-threat"

# Five radii and three seeds: 15 soups of each kind, judged on images that were not used to choose.
for kind in threat eps continuous; do
    soupmerge learn ${!kind} --eps 0,2/255,4/255,8/255,16/255 --seeds 3 $train --limit 4500 --batch-size 64 \
        --epochs 4 $judge --beside "$out/grid-$kind" -o "$out/learned-$kind"
    soupmerge report "$out/learned-$kind"
    soupmerge greedy ${!kind} $choose --limit 500 -o "$out/greedy-$kind"
done

# Longer learning; one vector for the whole network; two threats at once; other batch-norm options.
short="$train --limit 4500 --batch-size 64 --epochs 4 $judge"
soupmerge learn $threat --eps 8/255 $train --limit 22500 --batch-size 64 --epochs 12 $judge -o "$out/long"
soupmerge learn $threat --eps 8/255 --groups model --dropout 0 --seeds 3 $short -o "$out/one-vector"
soupmerge learn $threat --against linf:8/255 --against l2:0.5 $short --threat l2:0.5 -o "$out/union"
soupmerge learn $threat --eps 8/255 $short --buffers base -o "$out/norms-base"
soupmerge learn $threat --eps 8/255 $short --recalibrate clean -o "$out/norms-recalibrated"
soupmerge learn $threat --eps 8/255 $short --batch-norm batch -o "$out/norms-batch"
soupmerge learn $threat --eps 8/255 $short --batch-norm batch --recalibrate clean \
    -o "$out/norms-batch-recalibrated"
