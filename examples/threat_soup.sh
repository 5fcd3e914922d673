#!/usr/bin/env bash
# Makes a threat-model soup on real images, end to end. docs/results.md has the results.
#
#   examples/threat_soup.sh DATA OUT
#
# DATA: a folder with train/ and test/, each with one folder of images per class (CIFAR-10, say).
# OUT:  the folder for all results. Every step resumes: run the script again after an interruption.
#
# It takes about 1 h 20 min on two CPU cores. On a GPU, use resnet18-cifar, train the base for all
# 100 epochs, and remove the limits.
set -eu
data=folder:$1
out=$2
mkdir -p "$out"
train="--data $data --precision bf16"
threats="--threat linf:8/255 --threat l2:0.5"

# One split serves the whole pipeline: 45,000 images train networks and coefficients, images of the
# other 5,000 choose a soup of the grid, and the test images judge.
soupmerge finetune --model 'resnet9?width=16' --threat linf:8/255 $train --split 'train[:45000]' \
    --epochs 18 --lr 0.05 --warmup 2 -o "$out/base.safetensors"
for threat in linf:8/255 l2:0.5 l1:12; do
    soupmerge finetune "$out/base.safetensors" --threat "$threat" $train --split 'train[:45000]' \
        --epochs 4 --lr 0.01 -o "$out/${threat%%:*}.safetensors"
done
ingredients="$out/linf.safetensors $out/l2.safetensors $out/l1.safetensors"
soupmerge check $ingredients

soupmerge grid $ingredients --data "$data" --split 'train[45000:]' --limit 500 $threats -o "$out/grid"
for eps in 0 4/255 16/255; do
    soupmerge learn $ingredients --eps "$eps" $train --split 'train[:45000]' --limit 9000 --epochs 8 \
        -o "$out/learned-${eps%%/*}"
done

soupmerge mix $ingredients -w uniform -o "$out/uniform.safetensors" --force
for metric in clean linf-8-255 l2-0.5; do
    soupmerge mix --recipe "$out/grid/best/$metric.json" -o "$out/grid-$metric.safetensors" --force
done
soupmerge eval "$out/base.safetensors" $ingredients "$out/uniform.safetensors" \
    "$out/grid-clean.safetensors" "$out/grid-linf-8-255.safetensors" "$out/grid-l2-0.5.safetensors" \
    "$out/grid/soup.safetensors" "$out"/learned-{0,4,16}/soup.safetensors \
    --data "$data" --split test --limit 1000 $threats -o "$out/judged"
for run in grid judged learned-0 learned-4 learned-16; do
    soupmerge report "$out/$run"
done
