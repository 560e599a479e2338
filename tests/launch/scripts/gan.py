"""A small GAN: two networks, two optimizers, three backward passes a round."""

import torch
from torch import nn, optim

torch.manual_seed(0)
torch.set_num_threads(1)
nz = 4


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(nn.Linear(nz, 8), nn.ReLU(True), nn.Linear(8, 2))

    def forward(self, z):
        return self.main(z)


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1), nn.Sigmoid())

    def forward(self, x):
        return self.main(x).view(-1)


netG, netD = Generator(), Discriminator()
criterion = nn.BCELoss()
optimizerD = optim.Adam(netD.parameters(), lr=2e-3, betas=(0.5, 0.999))
optimizerG = optim.Adam(netG.parameters(), lr=2e-3, betas=(0.5, 0.999))

for step in range(12):
    real = torch.randn(16, 2) * 0.5 + 1.0
    netD.zero_grad()
    errD_real = criterion(netD(real), torch.ones(16))
    errD_real.backward()
    fake = netG(torch.randn(16, nz))
    errD_fake = criterion(netD(fake.detach()), torch.zeros(16))
    errD_fake.backward()
    optimizerD.step()
    netG.zero_grad()
    errG = criterion(netD(fake), torch.ones(16))
    errG.backward()
    optimizerG.step()
    print(f"{step} loss_D {(errD_real + errD_fake).item():.7f} loss_G {errG.item():.7f}")
print("weights", sum(p.double().sum().item() for net in (netG, netD) for p in net.parameters()))
